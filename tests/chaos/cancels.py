"""Cancel tasks at random moments, and see that each ends once, as it was told, and alone.

``python -m tests.chaos.cancels --count 5000`` runs it on a tree of its own. Tasks are cancelled
while they are delayed, queued, claimed, starting, running, between two attempts, and as they end;
some are left alone. Each notes in a log what it does, and returns the nonce that it was given.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.acceptance.conftest import PLAIN
from tests.acceptance.tree import Tree, lent, project

FUNCTIONS = {
    # share, run time in ms, how long after its claim a cancel may come
    "polite": (0.35, (0, 800), 0.6),
    "awake": (0.2, (0, 800), 0.6),
    "deaf": (0.15, (0, 400), 0.4),
    "flaky": (0.15, (0, 50), 1.0),
    "Sluggish": (0.12, (0, 200), 0.5),
    "stubborn": (0.03, (0, 5000), 1.0),
}
"""``stubborn`` has to be killed, which takes four seconds of a slot."""
WAITING_S = 1.0
"""How long after it was accepted a cancel may come that does not wait for the claim."""
DELAYED_SHARE = 0.15
SPARED_SHARE = 0.15
CLAIMED_SHARE = 0.6
WIDTH = 12
"""Tasks under way at once: some run, some wait."""
END_S = 60.0
CLOCK_S = 0.005
"""Times in the ledger are told to the millisecond."""
_TOML = "[run]\nreload = false\n\n[pools.cpu]\ntask_slots = 4\n"
_LOOK_S = 0.02
_SHOWN = 40


class Effect(NamedTuple):
    """Something that a task did."""

    attempt: int
    nonce: str
    what: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Order:
    """A task to submit, and how long after that, or after its claim, to cancel it, if at all."""

    nonce: str
    function: str
    ms: float
    delay_s: float | None
    cancel_after_s: float | None
    is_claimed_first: bool


@dataclass(kw_only=True)
class Fate:
    """What became of an order: its task as it was first seen to have ended, and at the very end."""

    order: Order
    task_id: str
    status: int | None = None
    """Of the answer to its cancel."""
    told: str = ""
    """The state in that answer."""
    ended: dict[str, Any] = field(default_factory=dict)
    at_last: dict[str, Any] = field(default_factory=dict)
    value: Any = None
    effects: list[Effect] = field(default_factory=list)

    @property
    def met_its_task(self) -> bool:
        """Whether its cancel came before its end."""
        return self.status in (200, 202)

    @property
    def phase(self) -> str:
        """Where its cancel met it."""
        has_begun = any(effect.what == "begin" for effect in self.effects)
        match self.status:
            case None:
                return "spared"
            case 409:
                return "ended"
            case 200:
                return "retrying" if has_begun else "delayed" if self.order.delay_s else "queued"
        if self.ended["state"] == "succeeded":
            return "finishing"
        return "running" if has_begun else "starting"


def orders(seed: int) -> Iterator[Order]:
    """Orders without end."""
    rng = random.Random(f"cancels {seed}")
    names, shares = [*FUNCTIONS], [share for share, *_ in FUNCTIONS.values()]
    for number in itertools.count():
        (name,) = rng.choices(names, shares)
        _, (least, most), until_s = FUNCTIONS[name]
        is_spared, is_delayed, is_claimed_first = (
            rng.random() < share for share in (SPARED_SHARE, DELAYED_SHARE, CLAIMED_SHARE)
        )
        limit_s = until_s if is_claimed_first else WAITING_S
        # More of them in the first moments: that is where claim and start are.
        after_s = limit_s * rng.random() ** 2
        yield Order(
            nonce=f"{number}-{secrets.token_hex(6)}",
            function=f"cancels.{name}",
            ms=rng.uniform(least, most),
            delay_s=rng.uniform(0.1, 0.5) if is_delayed else None,
            cancel_after_s=None if is_spared else after_s,
            is_claimed_first=is_claimed_first,
        )


async def run(url: str, count: int, seed: int, log: Path) -> list[Fate]:
    """Submit orders and cancel them until ``count`` cancels have met a task that had not ended."""
    coming, fates = orders(seed), list[Fate]()
    async with httpx.AsyncClient(base_url=url, timeout=END_S) as client:

        async def work() -> None:
            while sum(fate.met_its_task for fate in fates) < count:
                fates.append(await _live(client, next(coming), log))

        await asyncio.gather(*(work() for _ in range(WIDTH)))
        effects = _read(log)
        for fate in fates:
            fate.at_last = (await client.get(f"/v1/tasks/{fate.task_id}")).json()
            fate.effects = effects.get(fate.task_id, [])
    return fates


async def _live(client: httpx.AsyncClient, order: Order, log: Path) -> Fate:
    body = {"nonce": order.nonce, "log": str(log), "ms": order.ms}
    headers = {"Prefer": "respond-async"}
    if order.delay_s is not None:
        headers["X-Skipper-Delay"] = f"{order.delay_s:.3f}"
    answer = await client.post(f"/v1/functions/{order.function}/invoke", json=body, headers=headers)
    answer.raise_for_status()
    fate = Fate(order=order, task_id=answer.json()["id"])
    path = f"/v1/tasks/{fate.task_id}"
    if order.cancel_after_s is not None:
        if order.is_claimed_first:
            await _until_claimed(client, path)
        await asyncio.sleep(order.cancel_after_s)
        answer = await client.post(f"{path}/cancel")
        told = answer.json()
        fate.status, fate.told = answer.status_code, told.get("task", told)["state"]
    ends = time.monotonic() + END_S
    while not fate.ended.get("finished_at") and time.monotonic() < ends:
        fate.ended = (await client.get(path, params={"wait": 20})).json()
    if fate.ended["state"] == "succeeded":
        fate.value = (await client.get(f"{path}/result")).json()
    return fate


async def _until_claimed(client: httpx.AsyncClient, path: str) -> None:
    ends = time.monotonic() + END_S
    while time.monotonic() < ends:
        if (await client.get(path)).json()["attempt"]:
            return
        await asyncio.sleep(_LOOK_S)


def _read(log: Path) -> dict[str, list[Effect]]:
    found: dict[str, list[Effect]] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        id_, attempt, nonce, *what, at = line.split(" ")
        effect = Effect(int(attempt), nonce, " ".join(what), float(at))
        found.setdefault(id_, []).append(effect)
    return found


# --- what must hold --------------------------------------------------------------------------


def violations(fates: list[Fate]) -> list[str]:
    """Every promise that was broken, in a sentence."""
    return [
        f"{fate.order.function} {fate.task_id} (cancel answered {fate.status}): {told}"
        for fate in fates
        for told in _wrong_with(fate)
    ]


def _wrong_with(fate: Fate) -> list[str]:
    state, order = fate.ended["state"], fate.order
    allowed = {
        None: ("succeeded",),
        200: ("cancelled",),
        202: ("cancelled", "succeeded"),
        409: ("succeeded",),
    }
    found = []
    if state not in allowed.get(fate.status, ()):
        found.append(f"ended {state}: {fate.ended.get('error')}")
    if fate.status in (200, 409) and fate.told != state:
        found.append(f"was told {fate.told} and ended {state}")
    if fate.at_last != fate.ended:
        found.append(f"changed after its end: {fate.ended} became {fate.at_last}")
    if state == "succeeded" and fate.value != order.nonce:
        found.append(f"answered {fate.value!r}, its nonce is {order.nonce!r}")
    if any(effect.nonce != order.nonce for effect in fate.effects):
        found.append(f"ran with another's input: {fate.effects}")
    if late := [effect for effect in fate.effects if effect.at > _ended_at(fate) + CLOCK_S]:
        found.append(f"went on after it had ended {state}: {late}")
    if not fate.ended["attempt"] and fate.effects:
        found.append(f"was never started and did {fate.effects}")
    ends = [effect for effect in fate.effects if effect.what == "end"]
    if len(ends) > 1 or (state == "succeeded" and not ends):
        found.append(f"came to its end {len(ends)} times")
    return found


def _ended_at(fate: Fate) -> float:
    return datetime.fromisoformat(fate.ended["finished_at"]).timestamp()


def report(fates: list[Fate], seconds: float) -> str:
    """A line about where the cancels met their tasks, and what came of them."""
    phases = Counter(fate.phase for fate in fates)
    states = Counter(fate.ended["state"] for fate in fates)
    met = sum(fate.met_its_task for fate in fates)
    return (
        f"{met} of {len(fates)} tasks cancelled before their end in {seconds:.0f} s; cancels "
        f"met {dict(phases.most_common())}; ended {dict(states.most_common())}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cancels", description=__doc__)
    parser.add_argument(
        "--count", type=int, default=5000, help="cancels that are not too late; default %(default)s"
    )
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cancels-") as name:
        folder = Path(name)
        text = (PLAIN / "functions" / "cancels.py").read_text()
        with lent(Tree(project(folder / "project", _TOML, cancels=text))) as tree:
            tree.ready()
            began = time.monotonic()
            log = folder / "effects.log"
            fates = asyncio.run(run(tree.url, arguments.count, arguments.seed, log))
            seconds = time.monotonic() - began
            tree.end()
    wrong = violations(fates)
    print(f"seed {arguments.seed}: {report(fates, seconds)}; {len(wrong)} violations", flush=True)
    for told in wrong[:_SHOWN]:
        print(f"  {told}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
