"""Whatever happens in whatever order: one answer per call, and no slot is lost or idle."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skipper.pool.direct.fleet import PATIENCE_S
from skipper.pool.direct.lane import DirectLane
from skipper.pool.direct.queue import AHEAD, DirectCall, EditionQueue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.processes.version import FunctionVersion
from skipper.pool.slots import Slots
from skipper.settings.pools import PoolSettings
from tests.unit.pool.played import Caller, Played, PlayedServing, call_of, version_of

SLOTS = 2
KINDS: dict[str, dict[str, Any]] = {
    "a.plain": {"recycle": 3},
    "b.asynchronous": {"is_async": True},
    "c.batched": {"batch": 3, "max_instances": 1},
    "d.quick": {},
}
pick = st.integers(0, 99)


class Life(RuleBasedStateMachine):
    """A direct lane among callers and instances that do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.caller = Caller()
        self.serving = PlayedServing()
        self.lent: list[Played[DirectCall]] = []
        self.calls: dict[int, DirectCall] = {}
        self.left: set[int] = set()
        self.ids = 0
        self.beside: list[FunctionVersion] = []
        """Versions that are live and not assigned."""
        self.lane = DirectLane(PoolSettings(queue=3), Slots(SLOTS), self.serving, PoolMetrics())
        for name, given in KINDS.items():
            self.lane.assign(version_of(name, **given))
        self.lane.versions.assigned[b"d.quick"].longest_s = 0.002

    def happens(self, what: Coroutine[Any, Any, None]) -> None:
        async def with_all_that_follows() -> None:
            await what
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(with_all_that_follows())

    @property
    def queues(self) -> list[EditionQueue]:
        """Those of all live versions."""
        return [*self.lane.versions]

    @property
    def busy(self) -> list[Played[DirectCall]]:
        return [instance for instance in self.serving.started if instance.calls]

    @rule(name=st.sampled_from([*KINDS]), depth=st.sampled_from([0, 0, 1]), late=st.booleans())
    def a_call_comes(self, name: str, depth: int, late: bool) -> None:
        async def come() -> None:
            self.ids += 1
            payload = call_of(name, depth=depth, budget_ms=1000 if late else 60_000)
            call = self.lane.submit(self.caller, self.ids, payload)
            if call is not None:
                self.calls[self.ids] = call

        self.happens(come())

    @precondition(lambda self: self.busy)
    @rule(which=pick, call=pick)
    def a_call_is_answered(self, which: int, call: int) -> None:
        async def answer() -> None:
            instance = self.busy[which % len(self.busy)]
            ids = [*instance.calls]
            in_turn = self.lane.versions.assigned[instance.job.function.encode()].spec.is_in_turn
            instance.replies(id_=ids[0 if in_turn else call % len(ids)])

        self.happens(answer())

    @precondition(lambda self: self.serving.started)
    @rule(which=pick)
    def an_instance_dies(self, which: int) -> None:
        async def die() -> None:
            self.serving.started[which % len(self.serving.started)].dies()

        self.happens(die())

    @precondition(lambda self: self.calls)
    @rule(which=pick)
    def a_caller_leaves(self, which: int) -> None:
        async def leave() -> None:
            id_ = [*self.calls][which % len(self.calls)]
            if not self.calls[id_].is_answered:
                self.left.add(id_)
            self.lane.cancel(self.calls[id_])

        self.happens(leave())

    @rule(seconds=st.sampled_from([0.0, PATIENCE_S * 2, 2.0, 31.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        async def sweep() -> None:
            self.lane.sweep(time.monotonic() + seconds)

        self.happens(sweep())

    @precondition(lambda self: self.busy)
    @rule(which=pick)
    def a_call_waits_for_another(self, which: int) -> None:
        async def lend() -> None:
            instance = self.busy[which % len(self.busy)]
            self.lent.append(instance)
            instance.begin_wait()

        self.happens(lend())

    @precondition(lambda self: self.lent)
    @rule(which=pick)
    def it_goes_on(self, which: int) -> None:
        async def go_on() -> None:
            self.lent.pop(which % len(self.lent)).end_wait()

        self.happens(go_on())

    @rule(name=st.sampled_from([*KINDS]))
    def new_code_takes_over(self, name: str) -> None:
        async def exchange() -> None:
            old = self.lane.versions.assigned[name.encode()].version
            self.lane.assign(version_of(name, **KINDS[name]))
            self.lane.retire(old)

        self.happens(exchange())

    @rule(name=st.sampled_from([*KINDS]))
    def a_version_is_assigned_beside_another(self, name: str) -> None:
        async def assign() -> None:
            self.beside.append(self.lane.versions.assigned[name.encode()].version)
            self.lane.assign(version_of(name, **KINDS[name]))

        self.happens(assign())

    @precondition(lambda self: self.beside)
    @rule(which=pick)
    def calls_go_back_to_an_earlier_version(self, which: int) -> None:
        async def go_back() -> None:
            version = self.beside.pop(which % len(self.beside))
            self.beside.append(self.lane.versions.assigned[version.name.encode()].version)
            self.lane.assign(version)

        self.happens(go_back())

    @precondition(lambda self: self.beside)
    @rule(which=pick)
    def a_version_beside_another_is_retired(self, which: int) -> None:
        async def retire() -> None:
            self.lane.retire(self.beside.pop(which % len(self.beside)))

        self.happens(retire())

    @invariant()
    def nobody_is_answered_twice(self) -> None:
        assert not set(self.caller.outcomes) & self.left

    @invariant()
    def every_slot_is_accounted_for(self) -> None:
        holding = [instance for instance in self.busy if not instance.waiting]
        assert self.lane.slots.busy == len(holding)
        assert self.lane.queued == sum(len(queue.calls) for queue in self.queues)

    @invariant()
    def nobody_waits_beside_a_free_instance_and_a_free_slot(self) -> None:
        for queue in self.queues:
            if queue.calls:
                assert self.lane._free_instance(queue.calls[0]) is None

    @invariant()
    def no_instance_runs_more_than_it_can(self) -> None:
        for instance in self.serving.started:
            most = {"a.plain": 1, "c.batched": 3, "d.quick": 1 + AHEAD}.get(
                instance.job.function, 16
            )
            assert len(instance.calls) <= most

    def teardown(self) -> None:
        """Once everything has come to its end, everybody has an answer and nothing is taken."""
        for _ in range(200):
            if not (self.busy or self.lent or self.lane.queued):
                break
            while self.lent:
                self.it_goes_on(0)
            while self.busy:
                self.a_call_is_answered(0, 0)
            for queue in self.queues:  # pauses between starts go by the real clock
                queue.retry_at = 0.0
            self.time_passes(PATIENCE_S * 2)
        assert set(self.caller.outcomes) | self.left == set(range(1, self.ids + 1))
        assert self.lane.slots.busy == self.lane.queued == 0
        self.loop.close()


TestLife = pytest.mark.filterwarnings("ignore::ResourceWarning")(Life.TestCase)
TestLife.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
