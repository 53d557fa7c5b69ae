"""What becomes of a schedule at a moment: which ticks are run, and when it is due next. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from skipper.cron import Missed, Overlap, Timetable, next_tick, ticks

ON_TIME_S = 60.0
"""A tick that is seen at most this late has not been missed."""
MOST_MISSED = 100
"""At most this many missed ticks are run, the latest ones."""
AHEAD_S = 60.0
"""The clocks of two schedulers differ by less than this."""
_DENSEST_S = 60.0
"""No cron expression comes true more often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """``ticks`` to run now, and when the schedule is due next: None if never again."""

    ticks: tuple[float, ...] = ()
    next_at: float | None


def plan(table: Timetable, due_at: float | None, now: float) -> Plan:
    """What to do at ``now`` with a schedule that was due at ``due_at``.

    None stands for one that no scheduler has seen before: it has missed nothing. However far
    ``now`` has jumped, at most :data:`MOST_MISSED` ticks are run, and the next one lies ahead:
    unless they may not run beside each other, and each waits for the one before.
    Raises ValueError for a time zone that this machine does not know.
    """
    following = next_tick(table.cron, table.timezone, now)
    if due_at is None or due_at > now:
        return Plan(next_at=following)
    since = max(due_at, now - ON_TIME_S) if table.missed is Missed.SKIP else due_at
    limit = MOST_MISSED if table.missed is Missed.ALL else 1
    found = _latest(table, since, now, limit)
    if table.overlap is Overlap.ALLOW or len(found) < 2:
        return Plan(ticks=found, next_at=following)
    if table.overlap is Overlap.QUEUE:  # one at a time: the next is due once this has ended
        return Plan(ticks=found[:1], next_at=found[1])
    return Plan(ticks=found[-1:], next_at=following)


def _latest(table: Timetable, since: float, until: float, limit: int) -> tuple[float, ...]:
    """The last ``limit`` ticks from ``since`` to ``until``, both included."""
    span = limit * _DENSEST_S
    while True:
        # Back over twice the time until there are enough: a year may hold half a million ticks.
        start = max(since, until - span)
        found = []
        for tick in ticks(table.cron, table.timezone, start - 1):
            if tick > until:
                break
            found.append(tick)
        if len(found) >= limit or start == since:
            return tuple(found[-limit:])
        span *= 2


def mended(table: Timetable, due_at: float, now: float) -> float | None:
    """When the schedule should be due, where a clock that was wrong has put it off; else None.

    Then ticks would pass before ``due_at``. Raises ValueError as :func:`plan` does.
    """
    soon = next_tick(table.cron, table.timezone, now + AHEAD_S)
    if soon is None or due_at <= soon:
        return None
    return next_tick(table.cron, table.timezone, now)
