"""A part of the calls that goes to a candidate's edition, and what it is kept ready by."""

from __future__ import annotations

import asyncio
from typing import Any

from skipper import shares
from skipper.outcomes import Outcome
from skipper.pool.models import Candidate
from tests.unit.pool.direct.test_lane import BROKEN, warmed
from tests.unit.pool.direct.test_swaps import Models, net
from tests.unit.pool.played import counted

PERCENT = 10.0
KEYS = [f"customer-{number}" for number in range(300)]
AMONG = [key for key in KEYS if shares.is_among("net", key, PERCENT)]
OTHERS = [key for key in KEYS if key not in AMONG]


class Part(Models):
    """A pool whose function may have a candidate."""

    async def try_out(self, version: int | None, percent: float = PERCENT) -> None:
        """Have a version be the candidate, and take that in."""
        refs = () if version is None else (net(version),)
        self.canary = Candidate("net", percent, refs) if refs else None
        self.lane.swaps.follow()
        await self.settle()

    def answering(self, key: str) -> str:
        """Which version is sent a call with this key."""
        before = {each: each.called for each in self.started}
        self.submit(key=key)
        (took,) = [each for each in self.started if each.called != before.get(each)]
        took.replies()
        return took.versions


async def serving(instances: int = 1, **given: Any) -> Part:
    pool = Part(**given)
    await pool.deploy(1)
    return await warmed(pool, instances)  # type: ignore[return-value] # what it was given


async def test_the_part_of_the_keys_that_the_record_says_goes_to_the_candidate() -> None:
    pool = await serving()
    await pool.try_out(2)
    for _ in range(2):
        assert {pool.answering(key) for key in AMONG} == {"net@2"}
        assert {pool.answering(key) for key in OTHERS} == {"net@1"}
    assert pool.gave_way[-1], "nobody waits for it"


async def test_a_larger_part_moves_no_key_that_was_with_the_candidate_and_loads_nothing() -> None:
    pool = await serving()
    await pool.try_out(2)
    started = len(pool.started)
    await pool.try_out(2, 50)
    assert {pool.answering(key) for key in AMONG} == {"net@2"}
    moved = sum(pool.answering(key) == "net@2" for key in KEYS)
    assert len(AMONG) < moved < len(KEYS)
    assert len(pool.started) == started


async def test_until_the_candidate_is_ready_production_answers_all() -> None:
    pool = await serving()
    pool.may_start(0)
    await pool.try_out(2)
    assert pool.answering(AMONG[0]) == "net@1"
    assert pool.starts is not None
    pool.starts.release()
    await pool.settle()
    assert pool.answering(AMONG[0]) == "net@2"


async def test_whoever_asks_for_the_change_waits_until_the_candidate_is_ready() -> None:
    pool = await serving()
    pool.may_start(0)
    pool.canary = Candidate("net", PERCENT, (net(2),))
    settling = asyncio.ensure_future(pool.lane.swaps.settle(5.0))
    await pool.settle()
    assert not settling.done()
    assert pool.starts is not None
    pool.starts.release()
    await settling
    assert pool.answering(AMONG[0]) == "net@2"


async def test_a_promotion_of_the_candidate_loads_nothing() -> None:
    pool = await serving()
    await pool.try_out(2)
    started = len(pool.started)
    pool.canary = None
    await pool.deploy(2)
    assert {pool.answering(key) for key in (AMONG[0], OTHERS[0])} == {"net@2"}
    assert len(pool.started) == started


async def test_a_promotion_while_the_candidate_loads_goes_on_with_it() -> None:
    pool = await serving()
    pool.may_start(0)
    await pool.try_out(2)
    pool.canary = None
    await pool.deploy(2)
    assert pool.served == "net@1"
    pool.may_start(2)
    pool.lane.swaps.follow()
    assert pool.served == "net@1"


async def test_the_end_of_a_canary_stops_it_and_loses_no_call() -> None:
    pool = await serving()
    await pool.try_out(2)
    ids = [pool.submit(key=AMONG[0]) for _ in range(2)]
    (candidate,) = pool.loaded(2)
    await pool.try_out(None)
    candidate.replies()
    for each in pool.loaded(1):
        while each.calls:
            each.replies()
    await pool.settle()
    assert pool.caller.outcomes == dict.fromkeys(ids, Outcome.OK)
    assert not candidate.is_alive
    assert pool.answering(AMONG[0]) == "net@1"


async def test_another_production_leaves_the_candidate_its_part() -> None:
    pool = await serving()
    await pool.try_out(2)
    await pool.deploy(3)
    assert pool.answering(AMONG[0]) == "net@2"
    assert pool.answering(OTHERS[0]) == "net@3"


async def test_a_version_that_was_in_production_may_be_the_candidate_and_stays() -> None:
    pool = await serving()
    await pool.deploy(2)
    await pool.try_out(1)
    for version in (3, 4):
        await pool.deploy(version)
        assert pool.answering(AMONG[0]) == "net@1"


async def test_a_candidate_that_does_not_load_takes_no_call() -> None:
    pool = await serving()
    pool.unfit = {"net@2"}
    await pool.try_out(2)
    assert pool.answering(AMONG[0]) == "net@1"
    pool.unfit, pool.condemned = set(), set()
    await pool.try_out(2)
    assert pool.answering(AMONG[0]) == "net@2", "it is tried again"


async def test_a_candidate_that_fails_with_this_code_alone_is_the_one_at_fault() -> None:
    pool = await serving()
    report, pool.report = pool.report, BROKEN
    await pool.try_out(2)
    pool.report = report
    assert pool.condemned == {"net@2"}
    assert pool.answering(AMONG[0]) == "net@1"


async def test_where_the_candidate_dies_production_answers_until_it_is_back() -> None:
    pool = await serving()
    await pool.try_out(2)
    for each in pool.loaded(2):
        each.dies()
    await pool.settle()
    assert pool.answering(AMONG[0]) == "net@1"
    pool.lane.swaps.follow()
    await pool.settle()
    assert pool.answering(AMONG[0]) == "net@2"


async def test_what_each_version_answers_is_counted_for_as_long_as_it_is_there() -> None:
    pool = await serving()
    await pool.try_out(2)
    for key in (*AMONG[:3], *OTHERS[:5]):
        pool.answering(key)
    told = pool.metrics.snapshot(queued=0, instances=())
    assert {each.version: each.outcomes for each in told.models} == {1: {"ok": 5}, 2: {"ok": 3}}
    pool.submit(key=AMONG[0])
    (candidate,) = pool.loaded(2)
    await pool.try_out(None)
    candidate.replies()
    told = pool.metrics.snapshot(queued=0, instances=())
    assert [each.version for each in told.models] == [1]
    assert counted(pool.metrics) == {"ok": 9}, "what a version that is gone has answered, too"


async def test_no_batch_has_calls_of_both() -> None:
    pool = await serving(batch=4, batch_wait_s=60.0)
    await pool.try_out(2)
    keys = [key for pair in zip(AMONG[:4], OTHERS[:4], strict=True) for key in pair]
    ids = {key: b"%d" % pool.submit(key=key) for key in keys}
    for version, mine in ((2, AMONG[:4]), (1, OTHERS[:4])):
        (instance,) = pool.loaded(version)
        assert [each for batch in instance.batches for each in batch] == [ids[k] for k in mine]
