"""Settings that say who is let in, as annotations that check them: keys, hosts, origins."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, SecretStr

SHORTEST_KEY = 16
"""As hexadecimal digits 64 bits: at 100,000 guesses a second, half of them take 3 million years."""
LONGEST_KEY = 512
"""A key is one line of a request's head, which has many others."""
FEWEST_CHARACTERS = 5
"""Different ones, of a key: fewer are typed, not drawn."""
_UNFILLED = re.compile(r"\$\{.*\}|\$\(.*\)|\{\{.*\}\}|<.*>|%.*%|\$[A-Za-z_]\w*")
"""What templates leave where nobody has filled them in."""
_VISIBLE = re.compile(r"[!-+\--~]*")  # ASCII without the comma, which parts a list of keys
_MAKE_ONE = "make one with `openssl rand -hex 24`"


def _wrong_with(key: str) -> str:
    """What is wrong with a key, without any of it; empty where nothing is."""
    if not key.strip():
        return f"is empty: {_MAKE_ONE}, or leave gateway.keys out"
    if key != key.strip():
        return "begins or ends with a blank: write it without"
    if _UNFILLED.fullmatch(key):
        return f"is a template that nobody has filled in: {_MAKE_ONE}"
    if not _VISIBLE.fullmatch(key):
        return "has a character that is not visible ASCII, or a comma: headers carry no others"
    if len(key) < SHORTEST_KEY:
        return (
            f"has {len(key)} characters, and fewer than {SHORTEST_KEY} can be guessed: {_MAKE_ONE}"
        )
    if len(key) > LONGEST_KEY:
        return f"has {len(key)} characters: at most {LONGEST_KEY} fit a request"
    if len(set(key)) < FEWEST_CHARACTERS:
        return f"repeats fewer than {FEWEST_CHARACTERS} characters and can be guessed: {_MAKE_ONE}"
    return ""


def _check_keys(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    seen: list[str] = []
    for number, key in enumerate(keys, 1):
        text = key.get_secret_value()
        problem = _wrong_with(text)
        if not problem and text in seen:
            problem = f"is key {seen.index(text) + 1} once more"
        if problem:
            raise ValueError(f"key {number} of {len(keys)} {problem}")
        seen.append(text)
    return keys


Keys = Annotated[tuple[SecretStr, ...], AfterValidator(_check_keys)]
"""API keys. One that a template left empty would let everybody in."""


# --- names under which it is asked ----------------------------------------------------------------

ANY_HOST = "*"
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL}){{0,30}}")


def _check_host(text: str) -> str:
    name = text.lower().strip("[]")
    if name == ANY_HOST or _NAME.fullmatch(name):
        return name
    if _is_address(name):
        return str(ipaddress.ip_address(name))
    raise ValueError(
        "write a name (api.example.com), all below one (*.example.com), an address, or * for any; "
        "no scheme, no port, no path"
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


AllowedHost = Annotated[str, AfterValidator(_check_host)]
"""A name that Host may have, in lower case: of one host, of all below a domain, or of any."""


# --- origins of pages -----------------------------------------------------------------------------

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_PORTS = range(1, 1 << 16)
_USUAL = {"http": ":80", "https": ":443"}


def _check_origin(text: str) -> str:
    """The origin as browsers write it: in lower case, without the port that its scheme has."""
    if text == "*":
        raise ValueError("any page on the web would be let in: name the origins of your own")
    if text == "null":
        raise ValueError("null is the origin of any sandboxed page and file: serve the page")
    found = _ORIGIN.fullmatch(text.lower())
    if found is None or not _is_host(found["host"]) or int(found["port"] or 1) not in _PORTS:
        raise ValueError(
            "write scheme, host and port alone, as https://app.example.com or "
            "http://localhost:5173: no path, no slash at the end"
        )
    return without_usual_port(found[0])


def without_usual_port(origin: str) -> str:
    """An origin without the port that its scheme has anyway."""
    return origin.removesuffix(_USUAL.get(origin.partition(":")[0], "none"))


def _is_host(text: str) -> bool:
    if text.startswith("["):
        return _is_address(text[1:-1])
    return bool(_NAME.fullmatch(text)) and not text.startswith("*")


CorsOrigin = Annotated[str, AfterValidator(_check_origin)]
"""Where pages come from that may call the gateway: ``https://app.example.com``."""
