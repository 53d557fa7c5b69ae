"""Calls that move from one set of models to another, and what stays loaded."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from skipper.instance.jobs import ModelRef
from skipper.outcomes import Outcome
from skipper.pool.direct.fleet import IDLE_S
from skipper.pool.direct.queue import DirectCall
from skipper.spec import BrokenFile
from skipper.wire.frames import FrameKind
from tests.unit.pool.direct.test_lane import BROKEN, Pool, warmed
from tests.unit.pool.played import Played, version_of


def net(version: int) -> ModelRef:
    return ModelRef(name="net", version=version, digest="d" * 64, format="tiny")


class Models(Pool):
    """A pool with one function that is served with a model, at first with version 1."""

    def __init__(self, **given: Any) -> None:
        super().__init__(version_of(models=("net",), **given), slots=4)

    async def deploy(self, version: int, *, fallback: int | None = None) -> None:
        """Have a version serve, and take that in without waiting for it."""
        self.models = (net(version),)
        self.fallback = (net(fallback or version),)
        self.lane.swaps.follow()
        await self.settle()

    @property
    def served(self) -> str:
        """The models that calls go to now."""
        return " ".join(ref.label for ref in self.queue.edition.models)

    def loaded(self, version: int) -> list[Played[DirectCall]]:
        """The instances that hold a version and live."""
        return [
            each for each in self.started if each.versions == f"net@{version}" and each.is_alive
        ]

    def may_start(self, instances: int) -> None:
        self.starts = asyncio.Semaphore(instances)


async def serving(instances: int = 1, **given: Any) -> Models:
    """A pool whose function has so many instances with version 1."""
    pool = Models(**given)
    await pool.deploy(1)
    return await warmed(pool, instances)  # type: ignore[return-value] # what it was given


async def test_calls_move_when_as_many_instances_as_are_warm_have_loaded() -> None:
    pool = await serving(2)
    pool.may_start(0)
    await pool.deploy(2)
    for started in range(2):
        assert pool.served == "net@1", f"{started} of 2 are ready"
        pool.submit()
        assert pool.loaded(1)[-1].given, "what serves goes on"
        pool.loaded(1)[-1].replies()
        assert pool.starts is not None
        pool.starts.release()
        await pool.settle()
    assert pool.served == "net@2"
    assert pool.gave_way[-2:] == [True, True], "nobody waits for them"
    before = [each.called for each in pool.loaded(1)]
    pool.submit()
    assert [each.called for each in pool.loaded(1)] == before
    assert sum(each.called for each in pool.loaded(2)) == 1


async def test_what_runs_as_calls_move_ends_where_it_began() -> None:
    pool = await serving()
    running = pool.submit()
    await pool.deploy(2)
    assert pool.served == "net@2"
    (old,) = pool.loaded(1)
    old.replies("old")
    assert pool.caller.answers == [(running, Outcome.OK, "old")]
    assert old.is_alive, "the version before stays loaded"


def told(instance: Played[DirectCall]) -> list[bytes]:
    """What an instance has been told to name, in the order of its frames; calls as ``call``."""
    kinds = {FrameKind.FOLLOWS, FrameKind.CALL}
    frames = [each for each in instance.transport.frames if each.kind in kinds]
    return [each.payload if each.kind == FrameKind.FOLLOWS else b"call" for each in frames]


async def test_an_edition_that_is_gone_back_to_names_the_record_of_now() -> None:
    pool = Models()
    for revision, version in ((1, 1), (2, 2), (3, 1)):
        pool.revision = b"net/%d" % revision
        await pool.deploy(version)
        pool.submit()
        await pool.settle()
        pool.loaded(version)[0].replies()
    (first,), (second,) = pool.loaded(1), pool.loaded(2)
    assert told(first) == [b"net/1", b"call", b"net/3", b"call"]
    assert told(second) == [b"net/2", b"call"]


async def test_a_record_that_names_the_same_versions_is_told_at_once() -> None:
    pool = Models()
    await pool.deploy(1)
    pool = await warmed(pool, 2)  # type: ignore[assignment] # what it was given
    for revision in (b"net/2", b"net/2", b"net/3"):
        pool.revision = revision
        pool.lane.swaps.follow()
    assert [told(each)[-2:] for each in pool.loaded(1)] == [[b"net/2", b"net/3"]] * 2


async def test_to_go_back_loads_nothing() -> None:
    pool = await serving(2)
    await pool.deploy(2)
    starts = len(pool.started)
    for version in (1, 2, 1):
        await pool.deploy(version)
        assert pool.served == f"net@{version}"
    assert len(pool.started) == starts


@pytest.mark.parametrize("kept", [0, 1, 2])
async def test_as_many_versions_as_are_kept_stay_loaded_beside_the_one_that_serves(
    kept: int,
) -> None:
    pool = await serving()
    pool.kept = kept
    for version in (2, 3, 4):
        await pool.deploy(version)
    held = [version for version in (1, 2, 3, 4) if pool.loaded(version)]
    assert held == [1, 2, 3, 4][3 - kept :]


async def test_going_back_by_several_versions_that_are_kept_loads_nothing() -> None:
    pool = await serving()
    pool.kept = 2
    for version in (2, 3):
        await pool.deploy(version)
    starts = len(pool.started)
    for version in (1, 3, 2, 1):
        await pool.deploy(version)
        assert pool.served == f"net@{version}"
    assert len(pool.started) == starts


async def test_while_a_function_is_called_one_instance_stays_that_it_may_go_back_to() -> None:
    pool = await serving(3)
    await pool.deploy(2)
    pool.submit(budget_ms=0)
    pool.later(IDLE_S + 1)
    assert len(pool.loaded(1)) == 1
    pool.loaded(2)[-1].replies()
    pool.later(2 * IDLE_S)
    await pool.settle()
    pool.later(2 * IDLE_S)
    assert pool.loaded(1) == pool.loaded(2) == []


async def test_for_a_function_that_nobody_has_called_nothing_is_loaded() -> None:
    pool = Models()
    for version in (1, 2):
        await pool.deploy(version)
        assert pool.served == f"net@{version}"
    assert pool.started == []
    pool.submit()
    await pool.settle()
    assert [each.versions for each in pool.started] == ["net@2"]
    assert pool.gave_way == [False]


async def test_who_waits_for_a_move_gets_it_however_long_it_takes_to_load() -> None:
    """After a while calls wait for what was promised."""
    pool = await serving()
    pool.may_start(0)
    pool.models = pool.fallback = (net(2),)
    await pool.lane.swaps.settle(0.01)
    assert pool.served == "net@2"
    waiting = pool.submit()
    assert pool.loaded(1)[0].given == []
    assert len(pool.gave_way) == 2, "not one more is started beside the one that is starting"
    assert pool.starts is not None
    pool.starts.release()
    await pool.settle()
    pool.loaded(2)[0].replies()
    assert pool.outcomes == {waiting: Outcome.OK}


async def test_going_back_does_not_wait_for_what_was_about_to_serve() -> None:
    pool = await serving()
    pool.may_start(0)
    await pool.deploy(2)
    pool.models = pool.fallback = (net(1),)
    began = time.monotonic()
    await pool.lane.swaps.settle(30.0)
    assert time.monotonic() - began < 5
    assert pool.served == "net@1"
    pool.starts = None
    await pool.deploy(2)
    assert pool.served == "net@2"


async def test_a_version_that_does_not_load_never_answers_and_what_serves_goes_on() -> None:
    pool = await serving()
    pool.unfit = {"net@2"}
    await pool.deploy(2, fallback=1)
    assert pool.served == "net@1"
    pool.submit()
    assert pool.loaded(1)[0].given
    await pool.deploy(3)
    assert pool.served == "net@3", "the next good one serves by itself"


async def test_calls_that_wait_for_a_version_that_does_not_load_go_to_the_one_before() -> None:
    pool = await serving()
    pool.may_start(0)
    pool.unfit, pool.models, pool.fallback = {"net@2"}, (net(2),), (net(1),)
    await pool.lane.swaps.settle(0.01)
    waiting = pool.submit()
    assert pool.starts is not None
    pool.starts.release()
    await pool.settle()
    assert pool.served == "net@1"
    pool.loaded(1)[0].replies()
    assert pool.outcomes == {waiting: Outcome.OK}


async def test_an_instance_that_starts_later_falls_back_too() -> None:
    """keras-team/keras#21046: instances that started later failed for ever."""
    pool = Models()
    pool.unfit = {"net@2"}
    await pool.deploy(2, fallback=1)
    waiting = pool.submit()
    await pool.settle()
    assert pool.served == "net@1"
    pool.loaded(1)[0].replies()
    assert pool.outcomes == {waiting: Outcome.OK}


async def test_where_no_version_loads_callers_are_told_why() -> None:
    pool = Models()
    pool.unfit = {"net@1"}
    await pool.deploy(1)
    pool.submit()
    await pool.settle()
    (answer,) = pool.caller.answers
    assert answer.outcome is Outcome.BROKEN
    assert "net@1 does not load: it is damaged" in answer.value


async def test_a_function_that_fails_with_a_new_version_alone_stays_with_the_one_before() -> None:
    pool = await serving()
    pool.report = BROKEN
    await pool.deploy(2, fallback=1)
    assert pool.condemned == {"net@2"}
    assert pool.served == "net@1"
    pool.submit()
    assert pool.loaded(1)[0].given


async def test_what_did_not_load_is_tried_again_beside_what_serves() -> None:
    pool = await serving()
    pool.unfit = {"net@2"}
    await pool.deploy(2, fallback=1)
    starts = len(pool.gave_way)
    for _ in range(3):
        await pool.deploy(2, fallback=1)
    assert len(pool.gave_way) == starts, "not before its time"
    pool.may_retry = True
    await pool.deploy(2, fallback=1)
    assert len(pool.gave_way) > starts
    assert pool.served == "net@1"
    pool.unfit = set()
    await pool.deploy(2, fallback=1)
    assert pool.served == "net@2"


async def test_new_code_serves_with_the_models_that_serve() -> None:
    pool = await serving()
    await pool.deploy(2)
    old, new = pool.version, version_of(models=("net",), code="beef")
    assert await pool.lane.warm(new) is None
    await pool.deploy(3)
    pool.lane.assign(new)
    pool.lane.retire(old)
    await pool.settle()
    assert pool.version is new
    assert pool.served == "net@3"
    assert {each.job.source.code for each in pool.started if each.is_alive} == {"beef"}  # type: ignore[union-attr] # played ones have one


async def test_code_that_is_broken_is_so_whatever_its_models() -> None:
    pool = await serving()
    pool.report = BROKEN
    found = await pool.lane.warm(version_of(models=("net",), code="beef"))
    assert isinstance(found, BrokenFile)
    assert pool.condemned == set()
    assert pool.served == "net@1"


async def test_a_function_that_goes_while_it_moves_leaves_no_instance() -> None:
    pool = await serving()
    pool.may_start(0)
    await pool.deploy(2)
    pool.lane.retire(pool.version)
    assert pool.starts is not None
    pool.starts.release()
    await pool.settle()
    assert [each for each in pool.started if each.is_alive] == []


async def test_a_batch_has_calls_of_one_version_alone() -> None:
    pool = await serving(batch=8, batch_wait_s=5.0)
    pool.submit()
    pool.submit()
    await pool.deploy(2)
    pool.submit()
    for queue in pool.lane.versions:
        if queue.calls:
            queue.calls[0].received -= 10
    pool.lane._pump()
    assert [each.batches or each.given for each in pool.loaded(1)] == [[[b"1", b"2"]]]
    assert [each.given for each in pool.loaded(2)] == [[b"3"]]
