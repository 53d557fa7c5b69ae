"""Parameters that several routes take, with what they accept."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Path, Query

from skipper.gateway.contents import WantedContent as WantedBytes

TaskId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
Filter = Annotated[str, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A name to look for. Databases do not agree about control characters: PostgreSQL has no NUL."""
Sequence = Annotated[int, Query(ge=0, le=2**63 - 1)]
"""A place among events. Bounded, as the next, by what the ledger's columns hold."""
AttemptNumber = Annotated[int, Query(ge=1, le=2**31 - 1)]
MAX_PAGE = 200
"""The most items on a page of a list."""


def _wanted(
    accept: Annotated[str, Header()] = "",
    wanted: Annotated[str, Header(alias="range")] = "",
    if_range: Annotated[str, Header()] = "",
    if_none_match: Annotated[str, Header()] = "",
) -> WantedBytes:
    return WantedBytes(accept, wanted, if_range, if_none_match)


WantedContent = Annotated[WantedBytes, Depends(_wanted)]
"""Which bytes of a content are wanted, as the request's headers say it."""
