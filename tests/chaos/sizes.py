"""How large a campaign is: the rounds it is made of, and what is missing in the end. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.plan import BACKENDS, ROLES, Round
from tests.chaos.points import REACHED, Provocation, provocation
from tests.chaos.report import Figures

_ENDS_EVERY, _STOPS_EVERY = 4, 8
"""Shutdowns serve several points at once, and a host asleep blunts the checker: both go together
in every so manieth round."""
_MOST_IN_ONE = 20
"""Kills of one role, and hits of one point, that a round which makes up for others may have."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much a campaign does on each of the two back-ends: twice that in all."""

    kills: int = 100
    """Of each role, the launcher included. Templates are killed as often as they are there."""
    hits: int = 5
    """Of each failpoint."""
    tasks: int = 25_000
    rounds: int = 10
    calm_s: float = 240.0
    calm_tasks: int = 2_500
    """They run without any fault, to see whether memory grows."""
    pause_s: Mapping[str, float] = field(default_factory=lambda: {"valkey": 2.0, "rabbit": 2.5})
    """Mean time between two faults, by back-end."""


SIZES = {
    "release": Size(),
    "small": Size(kills=10, hits=1, tasks=2_000, rounds=2, calm_s=100.0, calm_tasks=800),
}


def plan(size: Size, backends: Sequence[str] = BACKENDS, seed: int = 1) -> list[Round]:
    """The rounds of a campaign, those of one back-end after those of the other."""
    rounds: list[Round] = []
    for backend in backends:
        rounds += _plan(size, backend, seed + len(rounds))
    return rounds


def _plan(size: Size, backend: str, seed: int) -> list[Round]:
    points = _dealt(size, seed)
    tasks = _shares(size.tasks - size.calm_tasks, size.rounds)
    kills = _shares(size.kills, size.rounds)
    rounds = [
        Round(
            seed=seed + number,
            backend=backend,
            tasks=tasks[number],
            kills=kills[number],
            launchers=kills[number],
            points=points[number],
            pause_s=size.pause_s[backend],
        )
        for number in range(size.rounds)
    ]
    calm = Round(
        seed=seed + size.rounds,
        backend=backend,
        tasks=size.calm_tasks,
        kills=0,
        calm_s=size.calm_s,
    )
    return [*rounds, calm]


def _shares(whole: int, parts: int) -> list[int]:
    """``whole`` in equal parts, as far as that goes."""
    return [whole * (n + 1) // parts - whole * n // parts for n in range(parts)]


def _dealt(size: Size, seed: int) -> list[tuple[str, ...]]:
    """The failpoints of each round: every one ``hits`` times in all."""
    every: dict[Provocation, int] = {"restart": _ENDS_EVERY, "stop": _STOPS_EVERY}
    hands: list[list[str]] = [[] for _ in range(size.rounds)]
    for point in REACHED:
        step = every.get(provocation(point), 1)
        places = range(0, size.rounds, step)
        rng = random.Random(f"{point} {seed}")
        start = 0 if step > 1 else rng.randrange(size.rounds)
        for number in range(size.hits):
            hands[places[(start + number) % len(places)]].append(point)
    return [tuple(hand) for hand in hands]


def missing(size: Size, backend: str, done: Figures, seed: int) -> Round | None:
    """A round that makes up for what ``done`` lacks of ``size``; None where it lacks nothing."""
    kills = {role: size.kills - done.faults.get(role, 0) for role in (*ROLES, "launcher")}
    del kills["template"]
    roles = tuple(role for role, lacking in kills.items() if lacking > 0 and role != "launcher")
    lacking = Counter({point: size.hits - done.hits.get(point, 0) for point in REACHED})
    points = tuple(point for point, n in lacking.items() for _ in range(min(n, _MOST_IN_ONE)))
    tasks = size.tasks - done.tasks
    if not roles and not points and kills["launcher"] <= 0 and tasks <= 0:
        return None
    return Round(
        seed=seed,
        backend=backend,
        tasks=max(tasks, 500),
        roles=roles,
        kills=min(max((kills[role] for role in roles), default=0), _MOST_IN_ONE),
        launchers=min(max(kills["launcher"], 0), _MOST_IN_ONE),
        points=points,
        pause_s=size.pause_s[backend],
    )
