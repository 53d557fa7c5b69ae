"""Which of the media types that a value can be had in a caller is answered (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from skipper import problems
from skipper.gateway.problems import Problem

_MOST = 64
"""Ranges that are looked at: no client sends more, and each costs time."""
_Q = re.compile(r"(0(\.\d{0,3})?|1(\.0{0,3})?)")


class _Range(NamedTuple):
    """One media range: what it fits, how well, and how much it is wanted."""

    pattern: str
    quality: float

    def fits(self, media_type: str) -> int:
        """How exactly: 3 for the type itself, 0 for not at all."""
        if self.pattern == media_type:
            return 3
        if self.pattern.endswith("/*") and media_type.startswith(self.pattern[:-1]):
            return 2
        return 1 if self.pattern == "*/*" else 0


def chosen(accept: str, gives: Sequence[str]) -> str | None:
    """The one of ``gives`` that an Accept header wants most; None where it wants none of them.

    Of those that are wanted alike it is the first, and without a header the first of all. ``*/*``
    among them fits whatever is wanted at all, since what it will be is not known yet.
    """
    ranges = _parsed(accept)
    if not ranges:
        return gives[0]
    best, most = None, 0.0
    for media_type in gives:
        quality = _quality(media_type, ranges)
        if quality > most:
            best, most = media_type, quality
    return best


def accepts(accept: str, media_type: str) -> bool:
    """Whether an Accept header wants this type."""
    return chosen(accept, [media_type]) is not None


def not_acceptable(what: str, accept: str, gives: Sequence[str]) -> Problem:
    """That ``what`` is there in other types than an Accept header has."""
    detail = f"{what} {', '.join(gives)}; accepted is {accept[:200]}"
    return Problem(problems.NOT_ACCEPTABLE, detail, {"available": list(gives)})


def _quality(media_type: str, ranges: Sequence[_Range]) -> float:
    if media_type == "*/*":
        return max(each.quality for each in ranges)
    exactness, quality = max((each.fits(media_type), each.quality) for each in ranges)
    return quality if exactness else 0.0


def _parsed(accept: str) -> list[_Range]:
    found = []
    for part in accept.split(",")[:_MOST]:
        pattern, *parameters = (each.strip() for each in part.split(";"))
        if not pattern:
            continue
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q" and _Q.fullmatch(value.strip()):
                quality = float(value)
        found.append(_Range("*/*" if pattern == "*" else pattern.lower(), quality))
    return found
