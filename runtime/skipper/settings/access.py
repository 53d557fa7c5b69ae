"""Settings that say who is let in, as annotations that check them: keys, hosts, origins."""

from __future__ import annotations

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
