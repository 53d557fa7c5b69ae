"""Inputs are judged by one process a file, which is there when it is needed and goes soon after."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from skipper.instance.jobs import Job, JobKind, ModuleText, Report
from skipper.outcomes import Outcome
from skipper.pool import checks
from skipper.pool.catalogue import FunctionAssignment
from skipper.pool.checks import InputChecks
from skipper.pool.processes.instance import C, InstanceOwner
from skipper.pool.processes.version import FunctionVersion
from skipper.settings.model import Settings
from skipper.spec import BrokenFile
from skipper.wire import calls
from skipper.wire.calls import CallHead
from skipper.wire.frames import FrameKind
from tests.unit.pool.played import Caller, Played, source_of, spec_of

FITS = calls.reply(Outcome.OK, b"c0de", b"null")


class Runner:
    """Starts played processes, once it may."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.started: list[Played[Any]] = []
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.report = Report()
        self.error: Exception | None = None

    async def run(self, job: Job, owner: InstanceOwner[C]) -> tuple[Played[C], Report]:
        self.jobs.append(job)
        await self.may_start.wait()
        if self.error is not None:
            raise self.error
        instance = Played(job, owner)
        self.started.append(instance)
        return instance, self.report


def text_of(code: str) -> tuple[ModuleText, ...]:
    return (ModuleText(name="functions.f", file=Path("f.py"), text=code.encode()),)


class Pool:
    """A pool's checks, with two functions in one file and one in another."""

    def __init__(self, backlog: checks.CheckBounds | None = None) -> None:
        self.runner, self.caller = Runner(), Caller()
        self.later_s = 0.0
        """How far its clock is ahead."""
        self.assigned: dict[str, FunctionAssignment] = {}
        for name in ("f.f", "f.g", "other.f"):
            self.assign(name)
        given = {"project_dir": "/project", "plugins": {"prices": {"unit": "EUR"}}}
        self.settings = Settings.model_validate(given)
        self.checks = InputChecks(
            self.settings,
            self.assigned,
            self.runner,
            backlog=backlog or checks.CheckBounds(),
            clock=lambda: time.monotonic() + self.later_s,
        )
        self._ids = 0

    def assign(self, name: str, code: str = "c0de", plugin: str = "") -> None:
        source = source_of(name.partition(".")[0], code, plugin=plugin)
        version = FunctionVersion(spec_of(name, code=code), source, text_of(code))
        self.assigned[name] = FunctionAssignment(version=version, seq=1)

    def submit(self, name: str = "f.f", body: bytes = b"{}") -> int:
        self._ids += 1
        payload = calls.call_head(CallHead(0, 0, 0, name, "req-1")) + body
        self.checks.submit(self.caller, self._ids, payload)
        return self._ids

    @property
    def outcomes(self) -> dict[int, Outcome]:
        return self.caller.outcomes


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_process_judges_all_inputs_of_a_file_as_its_text_was_read() -> None:
    pool = Pool()
    first, second = pool.submit("f.f"), pool.submit("f.g")
    await settled()
    third = pool.submit("f.f")
    (instance,) = pool.runner.started
    (job,) = pool.runner.jobs
    assert (job.kind, job.texts, job.models, job.function) == (
        JobKind.CHECK,
        text_of("c0de"),
        (),
        "",
    )
    assert [frame.kind for frame in instance.transport.frames] == [FrameKind.CHECK] * 3
    for id_ in list(instance.calls):
        instance.ends(FITS, id_)
    assert pool.outcomes == dict.fromkeys((first, second, third), Outcome.OK)


async def test_the_process_gets_the_settings_of_the_plugin_that_named_the_file() -> None:
    pool = Pool()
    pool.assign("prices.train", plugin="prices")
    pool.submit("prices.train")
    pool.submit("f.f")
    await settled()
    table = pool.settings.table_of("prices")
    assert table is not None
    assert [job.settings for job in pool.runner.jobs] == [table, None]


async def test_another_file_has_another_process_and_an_unknown_function_none() -> None:
    pool = Pool()
    pool.submit("f.f")
    pool.submit("other.f")
    gone = pool.submit("gone.f")
    await settled()
    assert len(pool.runner.started) == 2
    assert pool.outcomes == {gone: Outcome.NOT_FOUND}


async def test_new_code_is_judged_by_a_process_of_its_own() -> None:
    pool = Pool()
    pool.submit("f.f")
    await settled()
    old = pool.runner.started[0]
    pool.assign("f.f", "new")
    late = pool.submit("f.f")
    await settled()
    assert old.is_stopped
    assert pool.runner.jobs[1].texts == text_of("new")
    pool.runner.started[1].ends(FITS)
    assert pool.outcomes[late] is Outcome.OK


async def test_new_code_that_comes_while_the_old_is_loaded_leaves_no_process_behind() -> None:
    pool = Pool()
    pool.runner.may_start.clear()
    early = pool.submit("f.f")
    pool.assign("f.f", "new")
    pool.submit("f.f")
    pool.runner.may_start.set()
    await settled()
    assert pool.outcomes == {early: Outcome.UNAVAILABLE}
    assert [instance.is_stopped for instance in pool.runner.started] == [True, False]


async def breaks(pool: Pool) -> None:
    pool.runner.report = Report(broken=(BrokenFile(file="f.py", error="NameError: np"),))


async def dies_loading(pool: Pool) -> None:
    pool.runner.error = ConnectionError("its process was killed by SIGKILL")


async def loads_for_ever(pool: Pool) -> None:
    pool.runner.error = TimeoutError("it did not finish loading within 60 s")


@pytest.mark.parametrize("how", [breaks, dies_loading, loads_for_ever])
async def test_where_the_file_cannot_be_loaded_nobody_can_tell_and_a_while_later_it_is_tried_anew(
    how: Callable[[Pool], Awaitable[None]],
) -> None:
    pool = Pool()
    await how(pool)
    first = pool.submit()
    await settled()
    second = pool.submit()
    await settled()
    assert pool.outcomes == {first: Outcome.UNAVAILABLE, second: Outcome.UNAVAILABLE}
    assert len(pool.runner.jobs) == 1
    pool.later_s = checks.RETRY_S
    pool.submit()
    await settled()
    assert len(pool.runner.jobs) == 2


async def test_a_start_that_takes_long_keeps_nobody_waiting_who_comes_late() -> None:
    pool = Pool()
    pool.runner.may_start.clear()
    pool.submit()
    pool.later_s = checks.PATIENCE_S + 0.1
    late = pool.submit()
    assert pool.outcomes == {late: Outcome.UNAVAILABLE}


async def test_a_process_that_dies_answers_for_what_it_had_and_the_next_input_has_a_new_one() -> (
    None
):
    pool = Pool()
    had = pool.submit()
    await settled()
    pool.runner.started[0].dies()
    assert pool.outcomes == {had: Outcome.UNAVAILABLE}
    pool.submit()
    await settled()
    assert len(pool.runner.started) == 2


async def test_a_validator_that_hangs_is_ended_with_its_process() -> None:
    pool = Pool()
    hanging = pool.submit()
    await settled()
    pool.checks.sweep(time.monotonic() + checks.HANG_S - 1)
    assert not pool.runner.started[0].is_stopped
    pool.checks.sweep(time.monotonic() + checks.HANG_S + 1)
    await settled()
    assert pool.runner.started[0].is_stopped
    assert pool.outcomes == {hanging: Outcome.UNAVAILABLE}


async def test_a_process_goes_when_it_is_not_needed_for_a_while() -> None:
    pool = Pool()
    pool.submit()
    await settled()
    pool.runner.started[0].ends(FITS)
    pool.checks.sweep(time.monotonic() + checks.IDLE_S - 1)
    assert not pool.runner.started[0].is_stopped
    pool.checks.sweep(time.monotonic() + checks.IDLE_S + 1)
    assert pool.runner.started[0].is_stopped


async def test_of_many_files_only_those_used_last_keep_their_process() -> None:
    pool = Pool()
    names = [f"file{number}.f" for number in range(checks.MOST + 3)]
    for name in names:
        pool.assign(name)
        pool.submit(name)
    await settled()
    for instance in pool.runner.started:
        instance.ends(FITS)
    pool.checks.sweep(time.monotonic())
    stopped = [instance.is_stopped for instance in pool.runner.started]
    assert stopped == [True] * 3 + [False] * checks.MOST


async def test_what_waits_to_be_judged_is_bounded() -> None:
    pool = Pool(backlog=checks.CheckBounds(inputs=2))
    for _ in range(2):
        pool.submit()
    third = pool.submit()
    await settled()
    fourth = pool.submit()
    assert pool.outcomes == {third: Outcome.UNAVAILABLE, fourth: Outcome.UNAVAILABLE}


async def test_the_bytes_that_wait_to_be_judged_are_bounded() -> None:
    pool = Pool(backlog=checks.CheckBounds(size=1000))
    large = pool.submit(body=b"x" * 2000)
    second = pool.submit()
    await settled()
    third = pool.submit()
    assert pool.outcomes == {second: Outcome.UNAVAILABLE, third: Outcome.UNAVAILABLE}
    (instance,) = pool.runner.started
    instance.ends(FITS, large)
    fourth, fifth = pool.submit(), pool.submit(body=b"x" * 990)
    assert (fourth in pool.outcomes, fifth in pool.outcomes) == (False, True)
