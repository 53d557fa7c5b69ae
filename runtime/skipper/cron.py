"""When schedules are due: cron expressions on the clocks of a time zone. Pure: reads no clock.

A moment at which a schedule is due is a *tick*, in seconds since the epoch.
"""

from __future__ import annotations

import difflib
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from enum import StrEnum

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict

_FIELDS = "minute, hour, day of month, month, day of week"
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)  # any will do: cronsim looks 50 years ahead


class Missed(StrEnum):
    """What becomes of ticks that passed while no scheduler ran."""

    ONCE = "once"
    """One run for all of them."""
    SKIP = "skip"
    """Nothing: the next tick is waited for."""
    ALL = "all"
    """A run for each, within a bound."""


class Overlap(StrEnum):
    """What becomes of a tick that comes while the schedule's last run still goes on."""

    QUEUE = "queue"
    """It waits for the end of that run."""
    SKIP = "skip"
    """It is left out."""
    CANCEL = "cancel"
    """That run is cancelled."""
    ALLOW = "allow"
    """It runs beside it."""


class Timetable(BaseModel):
    """When something runs: a cron expression on the clocks of ``timezone``.

    Plain data, which is checked where it is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: str
    timezone: str = "UTC"
    missed: Missed = Missed.ONCE
    overlap: Overlap = Overlap.QUEUE


def check_cron(text: str) -> str:
    """``text``, if it is a cron expression that is due at some time. Raises ValueError."""
    if not isinstance(text, str) or len(text.split()) != 5:
        raise ValueError(f"write five fields ({_FIELDS}), such as '0 3 * * *'")
    if next(_sim(text, _SOME_DAY), None) is None:
        raise ValueError("there is no such day")
    return text


def check_timezone(name: str) -> str:
    """``name``, if it names a time zone. Raises ValueError."""
    _zone(name)
    return name


def ticks(cron: str, timezone: str, after: float) -> Iterator[float]:
    """Every tick later than ``after``, in order and each once.

    Local times that a change of clocks leaves out count as the moment of that change, if minute and
    hour are fixed; those that come twice count the first time. An expression whose minute or hour
    begins with ``*`` follows the clocks as they are shown. All this is Debian's cron.
    Raises ValueError for what :func:`check_cron` or :func:`check_timezone` would refuse.
    """
    last = after
    for moment in _sim(cron, datetime.fromtimestamp(after, _zone(timezone))):
        # What is left out may stand for a tick of its own as well; what comes twice may be past.
        if (tick := moment.timestamp()) > last:
            last = tick
            yield tick


def next_tick(cron: str, timezone: str, after: float) -> float | None:
    """The first tick later than ``after``; None if none follows within 50 years."""
    return next(ticks(cron, timezone, after), None)


def _sim(cron: str, start: datetime) -> CronSim:
    try:
        return CronSim(cron, start)
    except CronSimError as error:
        wrong = str(error).removeprefix("Bad ").replace("-", " ")
        raise ValueError(f"the {wrong} is wrong; the five fields are {_FIELDS}") from None


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # needs no files, and cronsim goes a shorter way with this very object
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        close = difflib.get_close_matches(str(name), zoneinfo.available_timezones(), 1)
        hint = f"did you mean {close[0]!r}?" if close else "write one such as 'Europe/Vilnius'"
        raise ValueError(f"there is no such time zone; {hint}") from None
