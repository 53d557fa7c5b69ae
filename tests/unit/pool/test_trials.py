"""A trained model is tried as those would load it that take it: in a process of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from skipper.errors import UnavailableError
from skipper.instance.jobs import Job, JobKind, ModuleText, Report
from skipper.pool.processes import devices
from skipper.pool.processes.instance import C, InstanceOwner
from skipper.pool.processes.version import FunctionVersion
from skipper.pool.trials import DEATHS, Trials, takers
from skipper.settings.model import Settings
from skipper.spec import BrokenFile
from skipper.wire.events import SavedModel
from tests.unit.pool.played import Played, source_of, spec_of

MODEL = SavedModel("m", "plain", "d" * 64, {})


class Runner:
    """Starts played processes that report what a test wants."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.limits: list[float | None] = []
        self.reports: dict[str, Report] = {}
        """By the name of a source."""
        self.error: Exception | None = None
        self.deaths = 10**6
        """How many starts the error comes of."""
        self.started: list[Played[Any]] = []

    async def run(
        self, job: Job, owner: InstanceOwner[C], *, timeout_s: float | None = None
    ) -> tuple[Played[C], Report]:
        self.jobs.append(job)
        self.limits.append(timeout_s)
        if self.error is not None and len(self.jobs) <= self.deaths:
            raise self.error
        instance = Played(job, owner)
        self.started.append(instance)
        assert job.source is not None
        return instance, self.reports.get(job.source.name, Report())


class Functions:
    """What is served."""

    def __init__(self, versions: Iterable[FunctionVersion]) -> None:
        self.versions = [*versions]


def version(name: str, **given: Any) -> FunctionVersion:
    source = name.partition(".")[0]
    text = ModuleText(name=f"functions.{source}", file=Path(f"{source}.py"), text=b"1")
    return FunctionVersion(spec_of(name, **given), source_of(source), (text,))


TRAINER = version("t.train", kind="training")
TAKERS = [
    version("a.one", models=("m",), start_timeout_s=7.0, memory_mb=300),
    version("b.two", models=("other", "m@candidate")),
]


@pytest.fixture
def runner() -> Runner:
    return Runner()


def trials(runner: Runner, *versions: FunctionVersion, folder: Path = Path("/p")) -> Trials:
    return Trials(Settings(project_dir=folder), Functions(versions), runner)


def test_one_function_of_each_file_that_takes_a_model_stands_for_the_file() -> None:
    others = [version("a.three", models=("m",)), version("c.four", models=("n",))]
    found = [each.name for each in takers("m", [*TAKERS, *others])]
    assert [name.partition(".")[0] for name in found] == ["a", "b"]


async def test_it_is_loaded_beside_the_code_of_whoever_takes_it(runner: Runner) -> None:
    assert await trials(runner, *TAKERS, TRAINER).complaint([MODEL], TRAINER) == ""
    assert [job.source and job.source.name for job in runner.jobs] == ["a", "b"]
    job = runner.jobs[0]
    assert (job.kind, job.texts) == (JobKind.TRY, TAKERS[0].texts)
    assert [(ref.name, ref.digest) for ref in job.models] == [("m", "d" * 64)]
    assert not any(instance.is_alive for instance in runner.started)


async def test_one_that_nobody_takes_is_loaded_beside_the_code_that_trained_it(
    runner: Runner,
) -> None:
    assert await trials(runner).complaint([MODEL], TRAINER) == ""
    assert [job.source and job.source.name for job in runner.jobs] == ["t"]


async def test_it_has_the_time_and_memory_of_who_takes_it_a_low_priority_and_no_device(
    runner: Runner,
) -> None:
    await trials(runner, *TAKERS).complaint([MODEL], TRAINER)
    assert runner.limits == [7.0, None]
    job = runner.jobs[0]
    assert (job.memory_mb, job.nice) == (300, 10)
    assert devices.NONE.items() <= job.environment.items()


async def test_what_is_wrong_is_told_with_who_would_have_loaded_it(runner: Runner) -> None:
    broken = BrokenFile(file="b.py", error="FormatError: no plugin loads it")
    runner.reports["b"] = Report(broken=(broken,))
    complaint = await trials(runner, *TAKERS).complaint([MODEL], TRAINER)
    assert "'m' is trained, but as b.two would load it" in complaint
    assert "no plugin loads it" in complaint


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TimeoutError(), "was not there after"),
        (ConnectionResetError("it used 400 MiB of memory"), "ended: it used 400 MiB"),
        (OSError("no more processes"), "no more processes"),
        (UnavailableError("the pool shuts down"), "shuts down"),
    ],
)
async def test_a_trial_that_hangs_or_dies_is_a_complaint(
    runner: Runner, error: Exception, message: str
) -> None:
    runner.error = error
    assert message in await trials(runner).complaint([MODEL], TRAINER)


async def test_the_first_that_is_unfit_ends_the_trials(runner: Runner) -> None:
    runner.error = ConnectionResetError("killed")
    second = MODEL._replace(name="n")
    assert "'m'" in await trials(runner).complaint([MODEL, second], TRAINER)
    assert len(runner.jobs) == DEATHS
    assert {job.models[0].name for job in runner.jobs} == {"m"}


@pytest.mark.parametrize("deaths", range(1, DEATHS))
async def test_a_process_that_was_killed_is_no_complaint_where_the_next_one_loads(
    runner: Runner, deaths: int
) -> None:
    runner.error, runner.deaths = ConnectionResetError("killed by SIGKILL"), deaths
    assert await trials(runner).complaint([MODEL], TRAINER) == ""
    assert len(runner.jobs) == deaths + 1
