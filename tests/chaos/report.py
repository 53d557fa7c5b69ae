"""One round's outcome, and the table that shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.chaos.checker import Evidence, Violation
from tests.chaos.plan import ROLES, Round

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
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a round."""

    round: Round
    violations: tuple[Violation, ...]
    facts: Mapping[str, Any]

    @property
    def is_good(self) -> bool:
        return not self.violations


def outcome(
    round_: Round, evidence: Evidence, violations: Sequence[Violation], seconds: float
) -> Outcome:
    """The outcome, with the figures that the table shows."""
    return Outcome(
        round=round_,
        violations=tuple(violations),
        facts=_facts(round_, evidence) | _found(violations) | {"duration": f"{seconds:.0f} s"},
    )


def _facts(round_: Round, evidence: Evidence) -> dict[str, Any]:
    tasks = evidence.look.tasks.values()
    states = Counter(task["state"] for task in tasks)
    again = sum(task["attempt"] - 1 for task in tasks)
    return {
        "seed": round_.seed,
        "back-end": round_.backend,
        "tasks": len(evidence.orders),
        "children": len(tasks) - len(evidence.orders),
        "states": _counted(states),
        "attempts again": again,
        "direct calls": _counted(_statuses(evidence.entries)),
        "struck": _counted(_struck(evidence.entries)),
        "slowest recovery": _slowest(evidence.entries),
        "longest silence": f"{_silence(evidence.entries):.1f} s",
    }


def _found(violations: Iterable[Violation]) -> dict[str, Any]:
    counted = Counter(violation.kind for violation in violations)
    return {kind: counted[kind] for kind in KINDS}


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def _statuses(entries: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Answers to direct calls by status; ``cut`` are connections that a dying gateway broke."""
    return Counter(
        "cut" if entry["what"] == "info" else str(entry["status"])
        for entry in entries
        if entry.get("op") in ("echo", "serve") and entry["what"] in ("ok", "info")
    )


def _struck(entries: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    counted = Counter(
        entry["role"] if entry["how"] == "kill" else f"{entry['role']} ({entry['how']})"
        for entry in entries
        if entry["what"] == "fault"
    )
    known = [role for role in ROLES if role in counted]
    return {role: counted[role] for role in [*known, *sorted(counted.keys() - set(known))]}


def _slowest(entries: Iterable[Mapping[str, Any]]) -> str:
    """By role, since a RabbitMQ takes longer than all the rest together."""
    slowest: dict[str, float] = {}
    for entry in entries:
        if entry["what"] == "recovery" and entry["seconds"] is not None:
            slowest[entry["role"]] = max(slowest.get(entry["role"], 0.0), entry["seconds"])
    ordered = sorted(slowest.items(), key=lambda item: -item[1])
    return ", ".join(f"{role} {seconds:.1f} s" for role, seconds in ordered) or "none"


def _silence(entries: Iterable[Mapping[str, Any]]) -> float:
    """The longest time without a direct call that succeeded."""
    times = [
        entry["t"]
        for entry in entries
        if entry.get("op") == "echo" and entry["what"] == "ok" and entry["status"] == 200
    ]
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def table(outcome_: Outcome) -> str:
    """For people."""
    width = max(map(len, outcome_.facts))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in outcome_.facts.items())
