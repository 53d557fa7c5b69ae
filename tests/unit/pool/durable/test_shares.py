"""How the cores are parted among the tasks that run.

A training that is alone on its machine and computes on one thread is
https://github.com/ray-project/ray/issues/30496.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

from skipper.ledger.records import Claim
from skipper.pool.durable.ahead import ClaimedAhead
from skipper.pool.durable.attempt import RunningAttempt, RunningAttempts
from skipper.pool.durable.shares import SETTLED_S, Shares
from skipper.pool.slots import Slots
from skipper.task import State
from skipper.wire.frames import FrameKind
from tests.unit.pool.durable.stage import Actor, Given, begun, staged, until
from tests.unit.pool.played import Nobody, Played, job_of, version_of

LATER = 10 * SETTLED_S


class Pool:
    """A pool with tasks at work."""

    def __init__(self, cores: int, slots: int) -> None:
        self.running = RunningAttempts()
        self.slots = Slots(slots)
        self.shares = Shares(cores, self.running, ClaimedAhead(self.slots))

    def runs(self, threads: int | None = None, called_at: float = 0.0) -> RunningAttempt:
        """A task begins, of a function that declares these ``threads``."""
        version = version_of(threads=threads)
        claim: Any = Claim.__new__(Claim)
        reply: Any = None
        attempt = RunningAttempt(claim=claim, reply=reply, version=version, called_at=called_at)
        attempt.instance = Played(job_of(version), Nobody())
        attempt.instance.calls[1] = attempt
        self.running[str(len(self.running))] = attempt
        self.slots.take()
        return attempt

    def told(self, now: float) -> list[int]:
        """What those that run are told at this time."""
        found = list(self.shares.settled(now))
        for attempt, threads in found:
            assert attempt.instance is not None
            attempt.instance.tell_threads(threads, now)
        return [threads for _, threads in found]


@pytest.mark.parametrize(
    ("cores", "slots", "declared", "share"),
    [
        (8, 8, [None], 8),
        (8, 8, [None, None], 4),
        (8, 8, [None, None, None], 2),
        (8, 8, [None] * 8, 1),
        (2, 4, [None] * 4, 1),
        (8, 1, [None], 8),
        (8, 8, [6, None], 2),
        (8, 8, [6, 6, None], 1),
        (8, 8, [1, None, None], 3),
    ],
)
async def test_what_runs_shares_the_cores_that_are_not_spoken_for(
    cores: int, slots: int, declared: list[int | None], share: int
) -> None:
    pool = Pool(cores, slots)
    for threads in declared:
        pool.runs(threads)
    assert pool.shares.of(version_of()) == share
    assert pool.shares.of(version_of(threads=5)) == 5


async def test_what_waits_for_a_call_of_its_own_has_no_share() -> None:
    pool = Pool(8, 8)
    pool.runs()
    pool.runs()
    pool.slots.lend()
    assert pool.shares.of(version_of()) == 8


async def test_shares_follow_once_they_have_been_due_for_a_while() -> None:
    pool = Pool(8, 8)
    first = pool.runs()
    assert pool.told(LATER) == [8]
    second = pool.runs(called_at=LATER)
    assert pool.told(LATER) == []
    assert pool.told(LATER + SETTLED_S) == [4, 4]
    del pool.running["1"]
    pool.slots.leave()
    assert pool.told(LATER + 2 * SETTLED_S) == []
    assert pool.told(LATER + 3 * SETTLED_S) == [8]
    assert first.instance is not None
    assert second.instance is not None
    assert (first.instance.threads_told, second.instance.threads_told) == (8, 4)


async def test_what_has_just_begun_is_left_alone() -> None:
    pool = Pool(8, 8)
    pool.runs(called_at=LATER)
    assert pool.told(LATER) == []
    assert pool.told(LATER + SETTLED_S / 2) == []


async def test_a_function_that_is_deaf_is_told_again_and_not_all_the_time() -> None:
    pool = Pool(8, 8)
    played: Any = pool.runs().instance
    assert pool.told(LATER) == [8]
    assert pool.told(LATER + SETTLED_S / 2) == []
    assert pool.told(LATER + SETTLED_S) == [8]
    assert played.signals == [signal.SIGURG] * 2
    assert [frame.payload for frame in played.transport.frames] == [b"8"]
    played.says(FrameKind.THREADS, 0, b"8")
    assert pool.told(LATER + 2 * SETTLED_S) == []


# --- in the lane -----------------------------------------------------------------------------


def says_it_computes_on(threads: bytes) -> Any:
    """What an instance does that answers so, whatever it is told."""

    def act(actor: Actor) -> None:
        actor.says(FrameKind.THREADS, 0, threads)
        actor.replies()

    return act


async def test_a_task_alone_is_told_that_it_has_all_cores(tmp_path: Any, ledger_url: str) -> None:
    async with staged(ledger_url, tmp_path, Given(cores=4)) as stage:
        _, actor = await begun(stage)
        assert actor.transport.frames[0] == (FrameKind.THREADS, 0, b"4")
        assert actor.signals == []


async def test_an_instance_that_cannot_have_its_share_is_replaced(
    tmp_path: Any, ledger_url: str
) -> None:
    async with staged(ledger_url, tmp_path, Given(cores=4)) as stage:
        version = version_of(kind="training")
        stage.functions.found = iter([version] * 3)
        stage.act = says_it_computes_on(b"1")
        await stage.until(stage.submit(), State.SUCCEEDED)
        await stage.until_at_rest()
        stage.act = says_it_computes_on(b"4")
        await stage.until(stage.submit(), State.SUCCEEDED)
        await stage.until_at_rest()
        await stage.until(stage.submit(), State.SUCCEEDED)
        assert [actor.is_stopped for actor in stage.started] == [True, False]


async def test_one_that_computes_on_more_than_its_share_is_kept(
    tmp_path: Any, ledger_url: str
) -> None:
    async with staged(ledger_url, tmp_path, Given(cores=4)) as stage:
        version = version_of(kind="training")
        stage.functions.found = iter([version] * 2)
        stage.act = says_it_computes_on(b"9")
        for _ in range(2):
            await stage.until(stage.submit(), State.SUCCEEDED)
            await stage.until_at_rest()
        await until(lambda: len(stage.started) == 1)
