"""How a caller wants its answer, from its headers: Prefer (RFC 7240) and X-Skipper-…; its key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from skipper.errors import DefinitionError
from skipper.gateway.calls import Preferences
from skipper.gateway.task_reader import MAX_WAIT_S
from skipper.spec import LONGEST_S, PRIORITIES, seconds

MINIMAL = "return=minimal"
_KEY = re.compile(r'"?([\x21\x23-\x7e]{1,255})"?')


def parse(header: str) -> Preferences:
    """Read a Prefer header; preferences that mean nothing here are ignored, as the RFC wants."""
    respond_async, is_minimal, wait_s = False, False, None
    for part in header.split(","):
        name, _, value = part.partition(";")[0].strip().partition("=")
        if name.strip().lower() == "respond-async":
            respond_async = True
        elif name.strip().lower() == "return":
            is_minimal = value.strip().strip('"').lower() == "minimal"
        elif name.strip().lower() == "wait":
            text = value.strip().strip('"')
            if re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text):
                wait_s = min(MAX_WAIT_S, float(text))
    return Preferences(respond_async=respond_async, is_minimal=is_minimal, wait_s=wait_s)


def applied(preferences: Preferences) -> str:
    """The value of ``Preference-Applied``; empty where no preference of Prefer was applied."""
    names = ["respond-async"] if preferences.respond_async else []
    if preferences.wait_s is not None:
        names.append(f"wait={preferences.wait_s:g}")
    return ", ".join(names)


def with_terms(preferences: Preferences, terms: Mapping[str, str]) -> Preferences:
    """``preferences`` with the values of headers of :data:`TERMS`. Raises ValueError."""
    return replace(
        preferences, **{TERMS[name][0]: TERMS[name][1](name, terms[name]) for name in terms}
    )


def _priority(header: str, text: str) -> int:
    least, most = PRIORITIES[0], PRIORITIES[-1]
    if not re.fullmatch(r"[+-]?\d{1,2}", text, re.ASCII) or int(text) not in PRIORITIES:
        raise ValueError(f"{header}: {text!r}; send a whole number from {least} to {most}")
    return int(text)


def _delay(header: str, text: str) -> float:
    try:
        value = float(text) if re.fullmatch(r"[\d.]+", text, re.ASCII) else seconds(text)
    except (ValueError, DefinitionError):
        detail = f"{header}: {text!r} is no time; send seconds, or '90s', '5m', '1h30m'"
        raise ValueError(detail) from None
    if value > LONGEST_S:
        raise ValueError(f"{header}: {text!r} is more than a year ahead")
    return value


def _expires(header: str, text: str) -> float:
    if not (value := _delay(header, text)):
        raise ValueError(f"{header}: {text!r}; send a time of more than 0 seconds")
    return value


TERMS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "X-Skipper-Priority": ("priority", _priority),
    "X-Skipper-Delay": ("delay_s", _delay),
    "X-Skipper-Expires": ("expires_s", _expires),
}
"""Headers for when and how urgently a task is to run: the preference, and how it is read."""


STICKY = "X-Skipper-Sticky"
"""Header: who is calling, to whom the same version of a model is to answer each time."""
_STICKY = re.compile(r"[\x21-\x7e]{1,255}")


def sticky_key(header: str) -> str | None:
    """The key; None where it is not one."""
    text = header.strip()
    return text if _STICKY.fullmatch(text) else None


def idempotency_key(header: str) -> str | None:
    """The key, quoted or bare; None where it is not one."""
    match = _KEY.fullmatch(header.strip())
    return match[1] if match else None
