"""What a round does, drawn from its seed. Pure: the same round gives the same plan."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any, Literal

from tests.chaos.points import action

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


_HASTY = 0.2
"""The share of blows that do not wait for anything."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One run of a tree under faults, and all that it takes to repeat it."""

    seed: int
    tasks: int = 2000
    kills: int = 10
    """Of each of ``roles``."""
    roles: tuple[str, ...] = ROLES
    backend: str = "valkey"
    points: tuple[str, ...] = ()
    """Failpoints to be hit, each as often as it stands here."""
    kill_share: float = 0.5
    """Of those hits; the others stall, or raise where an error may come from anywhere."""
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
    calm_s: float = 0.0
    """Load goes on for at least this long. Without any fault it shows whether memory grows."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One blow: after ``pause_s``, at the next ``moment``, to one of ``role``'s processes.

    ``draw`` in [0, 1) chooses which one; a function's moment chooses its own instance or host.
    """

    role: str
    pause_s: float = 0.0
    draw: float = 0.0
    how: How = "kill"
    moment: Moment = "any"
    is_hasty: bool = True
    """Whether it may fall into the recovery from an earlier one."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A failpoint to be armed until somebody passes by. ``action`` as in skipper.failpoints."""

    point: str
    action: str

    @property
    def how(self) -> str:
        return self.action.partition(" ")[0]


Way = Literal["submit", "retry", "run", "test"]
"""How a task comes to be: by a call, a retry of an earlier one, a schedule run now, a webhook's
test."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file of ``size`` bytes that a task is sent, and that it returns turned around.

    Its content follows from its order's nonce, so that it stands for it. ``is_kept``: it is
    uploaded before, and named by its id; else it is a part of a form.
    """

    size: int
    is_kept: bool

    def content(self, nonce: str) -> bytes:
        return random.Random(f"upload {nonce}").randbytes(self.size)

    def answer(self, nonce: str) -> dict[str, Any]:
        """What :func:`tests.chaos.look.look` makes of the result."""
        return digest_of(self.content(nonce)[::-1])


def digest_of(content: bytes) -> dict[str, Any]:
    """What stands in evidence for a value that is no JSON."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@dataclass(frozen=True, kw_only=True)
class Order:
    """One task to have accepted.

    Of a call ``key`` is the Idempotency-Key and ``nonce`` what its result must echo. Other ways in
    have neither function nor body.
    """

    key: str
    way: Way = "submit"
    function: str = ""
    nonce: str = ""
    body: dict[str, Any] = field(default_factory=dict, repr=False)
    upload: Upload | None = None
    """Not None: a file goes with the body."""
    wait_s: float | None = None
    """Not None: ask for the result with the same request (``Prefer: wait``)."""
    cancel_s: float | None = None
    """Not None: cancel it so long after it was accepted."""


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
            is_hasty=rng.random() < _HASTY,
            # A host that falls asleep over a task wakes up to end what is not its own any more.
            moment="start" if how == "stop" else rng.choice(_MOMENTS.get(role, ("any",))),
        )
        for role, how in blows
    ]


def _pause(rng: random.Random, mean_s: float) -> float:
    """Mostly apart; some follow at once."""
    if rng.random() < _HASTY:
        return rng.uniform(0.0, 0.5)
    return min(rng.expovariate((1 - _HASTY) / mean_s), 4 * mean_s)


def hits(round_: Round) -> list[Hit]:
    """The failpoints of a round, in order."""
    rng = random.Random(f"hits {round_.seed}")
    points = rng.sample(round_.points, len(round_.points))
    return [Hit(point=point, action=action(point, round_.kill_share, rng)) for point in points]


_SHARES = {
    "work": 45,
    "heavy": 20,
    "once": 5,
    "bulk": 5,
    "carry": 4,
    "relay": 2,
    "train": 4,
    "stride": 4,
    "parent": 5,
    "fickle": 4,
    "retry": 3,
    "run": 2,
    "test": 1,
}
"""Of kinds of tasks: functions of the campaign's project, and other ways in."""
_UPLOADED = {"carry": (1_000, 900_000), "relay": (200_000, 600_000)}
"""Which are sent files, and of how many bytes: of less than 128 KiB they travel with the call."""
_WAYS: Mapping[str, Way] = {"retry": "retry", "run": "run", "test": "test"}


def orders(round_: Round) -> list[Order]:
    """The tasks of a round, in order of submission."""
    rng = random.Random(f"orders {round_.seed}")
    kinds = rng.choices(list(_SHARES), list(_SHARES.values()), k=round_.tasks)
    return [_order(rng, f"{round_.seed}-{number}", kind) for number, kind in enumerate(kinds)]


def extra(round_: Round, number: int, kind: str) -> Order:
    """A further task: as many as it takes to lead somebody to a failpoint."""
    nonce = f"{round_.seed}-x{number}"
    return _order(random.Random(f"extra {nonce}"), nonce, kind)


def cancellable(orders_: Iterable[Order]) -> set[str]:
    """The keys of the orders that the driver cancels."""
    return {order.key for order in orders_ if order.cancel_s is not None}


def echoes(value: Any, order: Order) -> bool:
    """Whether a value is that of a task with the order's input."""
    if not isinstance(value, dict):
        return False
    if order.upload is not None:
        return value == order.upload.answer(order.nonce)
    echo = value["metrics"] if order.function == "chaos.train" else value
    is_whole = "ballast" not in order.body or echo["ballast"] == order.body["ballast"][::-1]
    return is_whole and bool(echo.get("nonce") == order.nonce)


def _order(rng: random.Random, nonce: str, kind: str) -> Order:
    if (way := _WAYS.get(kind)) is not None:
        return Order(key=f"key-{nonce}", way=way)
    body: dict[str, Any] = {"nonce": nonce, "ms": _milliseconds(rng)}
    wait_s = round(rng.uniform(0.2, 5.0), 1) if rng.random() < 0.1 or kind == "train" else None
    cancel_s = None
    if kind == "bulk":
        body["ballast"] = rng.randbytes(rng.randint(40_000, 100_000)).hex()
    elif kind == "fickle":  # cancelled while it waits, while it runs, or just too late
        body["ms"], cancel_s, wait_s = rng.randint(200, 900), round(rng.uniform(0.0, 0.8), 3), None
    upload = None
    if kind in _UPLOADED:
        upload = Upload(size=rng.randint(*_UPLOADED[kind]), is_kept=rng.random() < 0.5)
    return Order(
        key=f"key-{nonce}",
        function=f"chaos.{kind}",
        upload=upload,
        nonce=nonce,
        body=body,
        wait_s=wait_s,
        cancel_s=cancel_s,
    )


def _milliseconds(rng: random.Random) -> int:
    shortest, longest = rng.choices([(1, 20), (50, 300), (500, 1500)], [70, 20, 10])[0]
    return rng.randint(shortest, longest)
