"""What a caller asks for beside the call itself: Prefer (RFC 7240), Accept, Idempotency-Key."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_WAIT_S = 60.0
_KEY = re.compile(r'"?([\x21\x23-\x7e]{1,255})"?')


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """``wait_s`` is None where the caller did not say how long it would wait."""

    respond_async: bool = False
    wait_s: float | None = None

    @property
    def wants_task(self) -> bool:
        return self.respond_async or self.wait_s is not None

    @property
    def applied(self) -> str:
        """What ``Preference-Applied`` says."""
        told = ["respond-async"] if self.respond_async else []
        if self.wait_s is not None:
            told.append(f"wait={self.wait_s:g}")
        return ", ".join(told)


NONE = Preferences()


def parse(header: str) -> Preferences:
    """Read a Prefer header; preferences that mean nothing here are ignored, as the RFC wants."""
    respond_async, wait_s = False, None
    for part in header.split(","):
        name, _, value = part.partition(";")[0].strip().partition("=")
        if name.strip().lower() == "respond-async":
            respond_async = True
        elif name.strip().lower() == "wait":
            text = value.strip().strip('"')
            if re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text):
                wait_s = min(MAX_WAIT_S, float(text))
    return Preferences(respond_async=respond_async, wait_s=wait_s)


def idempotency_key(header: str) -> str | None:
    """The key, quoted or bare; None where it is not one."""
    match = _KEY.fullmatch(header.strip())
    return match[1] if match else None
