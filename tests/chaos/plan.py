"""What a round does, drawn from its seed. Pure: the same round gives the same plan."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any, Literal

ROLES = ("instance", "template", "host", "consumer", "gateway", "scheduler", "broker")
BACKENDS = ("valkey", "rabbit")
"""Valkey with SQLite, and RabbitMQ with PostgreSQL."""
STOPPED = ("host", "gateway", "host", "broker", "host", "scheduler", "host", "consumer")
"""Who is made to sleep, one after the other."""
STOP_S = 15.0
"""How long a stopped process sleeps: longer than a lease lasts."""

How = Literal["kill", "stop", "end", "cut"]
"""SIGKILL, SIGSTOP, SIGTERM; SIGKILL to the whole tree at once."""
Moment = Literal["any", "submit", "start", "end"]
"""At once; as the driver submits; as a function says in the effect log that it starts, or ends."""
_MOMENTS: dict[str, tuple[Moment, ...]] = {
    "instance": ("any", "start", "end"),
    "host": ("any", "start", "end"),
    "consumer": ("any", "submit"),
    "gateway": ("any", "submit"),
    "broker": ("any", "submit"),
}
"""Random blows rarely hit the few milliseconds in which something is half done; these do."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One run of a tree under faults, and all that it takes to repeat it."""

    seed: int
    tasks: int = 2000
    kills: int = 10
    """Of each of ``roles``."""
    roles: tuple[str, ...] = ROLES
    backend: str = "valkey"
    stops: int = 0
    """Processes that sleep for a while (SIGSTOP) and then go on as if nothing had been."""
    launchers: int = 0
    """Kills of the launcher itself; each time the tree must go, and another is started."""
    restarts: int = 0
    """Ends of the whole tree in the middle of its work, as a user ends it, and new starts."""
    cuts: int = 0
    """Kills of every process at once, and new starts."""
    machines: int = 1
    """Trees that share the work, the first with everything, the others with pools alone."""
    pause_s: float = 1.8
    """Mean time between two faults."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One blow: after ``pause_s``, at the next ``moment``, to one of ``role``'s processes.

    ``draw`` in [0, 1) chooses which one; a function's moment chooses its own instance or host.
    """

    role: str
    pause_s: float
    draw: float
    how: How = "kill"
    moment: Moment = "any"


@dataclass(frozen=True, kw_only=True)
class Order:
    """One task to submit. ``key`` is its Idempotency-Key, ``nonce`` what its result must echo."""

    key: str
    function: str
    nonce: str
    body: dict[str, Any] = field(repr=False)
    wait_s: float | None = None
    """Not None: ask for the result with the same request (``Prefer: wait``)."""


def faults(round_: Round) -> list[Fault]:
    """The blows of a round, in order."""
    rng = random.Random(f"faults {round_.seed}")
    blows: list[tuple[str, How]] = [(role, "kill") for role in round_.roles * round_.kills]
    blows.extend((role, "stop") for role in islice(cycle(STOPPED), round_.stops))
    blows.extend([("launcher", "kill")] * round_.launchers)
    blows.extend([("launcher", "end")] * round_.restarts)
    blows.extend([("launcher", "cut")] * round_.cuts)
    rng.shuffle(blows)
    return [
        Fault(
            role=role,
            how=how,
            pause_s=_pause(rng, round_.pause_s),
            draw=rng.random(),
            # A host that falls asleep over a task wakes up to end what is not its own any more.
            moment="start" if how == "stop" else rng.choice(_MOMENTS.get(role, ("any",))),
        )
        for role, how in blows
    ]


def _pause(rng: random.Random, mean_s: float) -> float:
    """Mostly apart; some fall into the recovery from the one before."""
    if rng.random() < 0.2:
        return rng.uniform(0.0, 0.5)
    return min(rng.expovariate(0.8 / mean_s), 4 * mean_s)


_SHARES = {"work": 61, "heavy": 20, "once": 5, "bulk": 5, "train": 4, "parent": 5}


def orders(round_: Round) -> list[Order]:
    """The tasks of a round, in order of submission."""
    rng = random.Random(f"orders {round_.seed}")
    kinds = rng.choices(list(_SHARES), list(_SHARES.values()), k=round_.tasks)
    return [_order(rng, f"{round_.seed}-{number}", kind) for number, kind in enumerate(kinds)]


def _order(rng: random.Random, nonce: str, kind: str) -> Order:
    body: dict[str, Any] = {"nonce": nonce, "ms": _milliseconds(rng)}
    if kind == "bulk":
        body["ballast"] = rng.randbytes(rng.randint(40_000, 100_000)).hex()
    wait_s = round(rng.uniform(0.2, 5.0), 1) if rng.random() < 0.1 or kind == "train" else None
    return Order(
        key=f"key-{nonce}", function=f"chaos.{kind}", nonce=nonce, body=body, wait_s=wait_s
    )


def _milliseconds(rng: random.Random) -> int:
    shortest, longest = rng.choices([(1, 20), (50, 300), (500, 1500)], [70, 20, 10])[0]
    return rng.randint(shortest, longest)
