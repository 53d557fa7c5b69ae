"""Parameters that several routes take, with what they accept."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request

from skipper import problems
from skipper.gateway.access.policy import caller_of
from skipper.gateway.contents import WantedContent as WantedBytes
from skipper.gateway.problems import Problem

TaskId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
Filter = Annotated[str, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A name to look for. Databases do not agree about control characters: PostgreSQL has no NUL."""
Sequence = Annotated[int, Query(ge=0, le=2**63 - 1)]
"""A place among events. Bounded, as the next, by what the ledger's columns hold."""
AttemptNumber = Annotated[int, Query(ge=1, le=2**31 - 1)]
VersionAt = Annotated[str, Path(max_length=63, description="a number, a role or an alias")]
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


def _caller(request: Request) -> str:
    return caller_of(request.state.key, request.state.peer)


Caller = Annotated[str, Depends(_caller)]
"""Who asks, as it is written down."""

_REVISION = re.compile(r'"(0|[1-9][0-9]{0,9})"')


def _follows(if_match: Annotated[str, Header()] = "") -> int | None:
    if not if_match or if_match.strip() == "*":
        return None
    if found := _REVISION.fullmatch(if_match.strip()):
        return int(found[1])
    detail = f"If-Match: {if_match[:80]} is no revision: send the ETag that GET answered"
    raise Problem(problems.IF_MATCH, detail)


Follows = Annotated[int | None, Depends(_follows)]
"""The revision that a change is to follow, as ``If-Match`` says it; None for whichever holds."""


def _known(follows: Follows, if_match: Annotated[str, Header()] = "") -> int | None:
    if not if_match:
        detail = "send If-Match with the ETag that GET answered, or * to replace whatever holds"
        raise Problem(problems.IF_MATCH, detail)
    return follows


MustFollow = Annotated[int | None, Depends(_known)]
"""As :data:`Follows`, of a change that must say so."""
