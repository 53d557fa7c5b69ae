"""What a round showed: figures that add up over rounds, and a table of them for people. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, get_args

from tests.chaos.evidence import Evidence, Violation
from tests.chaos.memory import merged
from tests.chaos.origins import DELIVERY, TICKING
from tests.chaos.plan import ROLES, Round, Way

KINDS = (
    "lost",
    "stuck",
    "failed",
    "doubled",
    "crossed",
    "unseen",
    "changed",
    "models",
    "unanswered",
    "orphans",
    "traces",
    "aborted",
)
"""Broken promises, and rounds that came to no end."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What rounds showed."""

    tasks: int = 0
    """Accepted from the driver."""
    children: int = 0
    """Accepted from functions."""
    origins: Mapping[str, int] = field(default_factory=dict)
    """All that were accepted, by the way in."""
    again: int = 0
    """Attempts beyond each task's first."""
    states: Mapping[str, int] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    """Answers to direct calls by status; ``cut`` are connections that a dying gateway broke."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """SIGKILLs by role, those at failpoints too; other blows by role and kind."""
    hits: Mapping[str, int] = field(default_factory=dict)
    """Failpoints taken, by name."""
    found: Mapping[str, int] = field(default_factory=dict)
    """Broken promises by kind."""
    recovery: Mapping[str, float] = field(default_factory=dict)
    """The slowest by role, seconds: a RabbitMQ takes longer than all the rest together."""
    silence_s: float = 0.0
    """The longest time without a direct call that succeeded."""
    growth: Mapping[str, float] = field(default_factory=dict)
    """MiB per 1,000 tasks, by process."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a round."""

    round: Round
    violations: tuple[Violation, ...]
    figures: Figures

    @property
    def is_good(self) -> bool:
        return not self.violations


def figures(
    evidence: Evidence,
    violations: Sequence[Violation],
    *,
    growth: Mapping[str, float],
    seconds: float,
) -> Figures:
    """The figures of one round."""
    tasks, entries = evidence.look.tasks.values(), evidence.entries
    ways = _ways(evidence)
    return Figures(
        tasks=sum(ways[way] for way in get_args(Way)),
        children=ways["child"],
        origins=ways,
        again=sum(max(task["attempt"] - 1, 0) for task in tasks),
        states=_numbers(task["state"] for task in tasks),
        calls=_statuses(entries),
        faults=_struck(entries),
        hits=_numbers(entry["point"] for entry in entries if entry["what"] == "hit"),
        found=_numbers(violation.kind for violation in violations),
        recovery=_slowest(entries),
        silence_s=_silence(entries),
        growth=growth,
        seconds=seconds,
    )


def total(each: Sequence[Figures]) -> Figures:
    """The figures of several rounds as one's."""
    return Figures(
        tasks=sum(one.tasks for one in each),
        children=sum(one.children for one in each),
        origins=_added(one.origins for one in each),
        again=sum(one.again for one in each),
        states=_added(one.states for one in each),
        calls=_added(one.calls for one in each),
        faults=_added(one.faults for one in each),
        hits=_added(one.hits for one in each),
        found=_added(one.found for one in each),
        recovery=_most(one.recovery for one in each),
        silence_s=max((one.silence_s for one in each), default=0.0),
        growth=merged(one.growth for one in each),
        seconds=sum(one.seconds for one in each),
    )


def _ways(evidence: Evidence) -> Counter[str]:
    """How many tasks came to be in each way, by what the driver was answered or the tree shows."""
    counts = Counter(str(entry["op"]) for entry in evidence.accepted(*get_args(Way)))
    for task in evidence.look.tasks.values():
        if task["parent_id"] is not None:
            counts["delivery" if task["function"] == DELIVERY else "child"] += 1
        elif task["schedule"] == TICKING:
            counts["tick"] += 1
    return counts


def _numbers(names: Iterable[str]) -> dict[str, int]:
    """How often each name comes."""
    return dict(Counter(names))


def _added(each: Iterable[Mapping[str, int]]) -> dict[str, int]:
    whole: Counter[str] = Counter()
    for one in each:
        whole.update(one)
    return dict(whole)


def _most(each: Iterable[Mapping[str, float]]) -> dict[str, float]:
    most: dict[str, float] = {}
    for one in each:
        for role, seconds in one.items():
            most[role] = max(most.get(role, 0.0), seconds)
    return most


def _statuses(entries: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return _numbers(
        "cut" if entry["what"] == "info" else str(entry["status"])
        for entry in entries
        if entry.get("op") in ("echo", "serve") and entry["what"] in ("ok", "info")
    )


def _struck(entries: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return _numbers(
        entry["role"] if entry["how"] == "kill" else f"{entry['role']} ({entry['how']})"
        for entry in entries
        if entry["what"] in ("fault", "hit")
    )


def _slowest(entries: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    return _most(
        {entry["role"]: round(entry["seconds"], 1)}
        for entry in entries
        if entry["what"] == "recovery" and entry["seconds"] is not None
    )


def _silence(entries: Iterable[Mapping[str, Any]]) -> float:
    times = [
        entry["t"]
        for entry in entries
        if entry.get("op") == "echo" and entry["what"] == "ok" and entry["status"] == 200
    ]
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def table(outcome: Outcome) -> str:
    """One round's, for people."""
    shown = outcome.figures
    facts = {
        "seed": outcome.round.seed,
        "back-end": outcome.round.backend,
        "tasks": f"{shown.tasks} and {shown.children} children",
        "by way in": counted(shown.origins),
        "states": counted(shown.states),
        "attempts again": shown.again,
        "direct calls": counted(shown.calls),
        "struck": counted(by_role(shown.faults)),
        "failpoints": f"{sum(shown.hits.values())} hits of {len(shown.hits)}",
        "slowest recovery": slowest(shown.recovery),
        "longest silence": f"{shown.silence_s:.1f} s",
        **{kind: shown.found.get(kind, 0) for kind in KINDS},
        "duration": f"{shown.seconds:.0f} s",
    }
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())


def by_role(faults: Mapping[str, int]) -> dict[str, int]:
    """``faults`` with the kills of the roles first."""
    known = [role for role in (*ROLES, "launcher") if role in faults]
    return {role: faults[role] for role in [*known, *sorted(faults.keys() - set(known))]}


def counted(counts: Mapping[Any, int]) -> str:
    """``3 this, 2 that``."""
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def slowest(recovery: Mapping[str, float]) -> str:
    """Each role's, the slowest first."""
    ordered = sorted(recovery.items(), key=lambda item: -item[1])
    return ", ".join(f"{role} {seconds:.1f} s" for role, seconds in ordered) or "none"
