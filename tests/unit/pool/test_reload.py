import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skipper.instance.jobs import Job, JobKind, ModuleText, Report, SourceInfo
from skipper.pool.catalogue import Catalogue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.peers import Peers
from skipper.pool.processes.instance import C, InstanceOwner
from skipper.pool.processes.process import Lane
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.processes.version import FunctionVersion
from skipper.pool.reading import FileReader
from skipper.pool.reload import Lanes, Reloader
from skipper.settings.model import Settings
from skipper.settings.plugins import PluginTable
from skipper.spec import BrokenFile
from skipper.wire.messages import CatalogueSnapshot
from tests.unit.pool.played import Played, source_of, spec_of


class DirectVersions:
    """Records what is asked of either lane as code changes."""

    def __init__(self) -> None:
        self.warmed: list[FunctionVersion] = []
        self.cold: BrokenFile | None = None
        """What is wrong with every version that is warmed."""
        self.assigned: dict[str, FunctionVersion] = {}
        self.retired: list[FunctionVersion] = []
        self.tasks = RetiredTasks()

    async def warm(self, version: FunctionVersion) -> BrokenFile | None:
        self.warmed.append(version)
        return self.cold

    def assign(self, version: FunctionVersion) -> None:
        self.assigned[version.name] = version

    def retire(self, version: FunctionVersion) -> None:
        self.retired.append(version)
        if self.assigned.get(version.name) is version:
            del self.assigned[version.name]


class Published(Peers):
    """Keeps which files were being read at each change."""

    def __init__(self, catalogue: Catalogue, host_id: str) -> None:
        super().__init__(catalogue, host_id)
        self.loading: list[set[str]] = []

    def publish_catalogue(self) -> None:
        self.loading.append(set(self._catalogue.loading))


class RetiredTasks:
    """Records which versions tasks do not use any more."""

    def __init__(self) -> None:
        self.retired: list[FunctionVersion] = []

    def retire(self, version: FunctionVersion) -> None:
        self.retired.append(version)


class Project:
    """A project as its instances would report it, and the catalogue of one pool that follows it."""

    def __init__(self, pool: str = "cpu", **sections: Any) -> None:
        self.files: dict[str, Report] = {}
        """What reading each file reports."""
        self.surveyed: dict[str, dict[str, Any]] = {}
        """What its text alone tells of each file."""
        self.broken: list[BrokenFile] = []
        self.warnings: tuple[str, ...] = ()
        self.errors: dict[str, Exception] = {}
        """By file, or ``*`` for the survey: what befalls its reading."""
        self.deleted: set[str] = set()
        """Files that went while they were read."""
        self.read: list[str] = []
        self.instances: list[Played[Any]] = []
        self.lanes = DirectVersions()
        self.metrics = PoolMetrics()
        self.quarantine = Quarantine()
        settings = Settings.model_validate({"project_dir": "/project", **sections})
        self.catalogue = Catalogue(settings, pool, self.quarantine)
        self.peers = Published(self.catalogue, "host-1")
        reader = FileReader(settings, pool, self, lambda file: file.stem not in self.deleted)
        lanes = Lanes(direct=self.lanes, tasks=self.lanes.tasks)
        self.reloader = Reloader(self.catalogue, reader, lanes, self.peers, self.metrics)

    def write(self, name: str, code: str, *functions: str, pool: str = "cpu", **told: Any) -> None:
        """Save a good file with these functions."""
        specs = tuple(spec_of(f"{name}.{f}", code=code, pool=pool) for f in functions)
        self.files[name] = Report(specs=specs, code=code)
        self.surveyed[name] = {"code": code, "pools": (pool,)} | told

    def spoil(self, name: str, code: str) -> None:
        """Save a file that parses and does not load."""
        broken = BrokenFile(file=f"/project/functions/{name}.py", line=3, error="NameError: np")
        self.files[name] = Report(broken=(broken,), code=code)
        self.surveyed[name]["code"] = code

    def mar(self, name: str, *functions: str) -> None:
        """Make mistakes in further functions of a good file."""
        file = f"/project/functions/{name}.py"
        items = (
            BrokenFile(file=file, line=3, error="DefinitionError", function=f"{name}.{each}")
            for each in functions
        )
        self.files[name] = self.files[name].model_copy(update={"broken": tuple(items)})

    def garble(self, name: str) -> None:
        """Save a file that does not parse."""
        del self.surveyed[name]
        file = f"/project/functions/{name}.py"
        self.broken = [BrokenFile(file=file, line=1, error="SyntaxError: never closed")]

    async def run(self, job: Job, owner: InstanceOwner[C]) -> tuple[Played[C], Report]:
        assert owner.lane is Lane.READING
        name = "*" if job.source is None else job.source.name
        if (error := self.errors.get(name)) is not None:
            raise error
        instance = Played(job, owner)
        self.instances.append(instance)
        if job.kind is JobKind.SURVEY:
            sources = tuple(source_of(name, **told) for name, told in self.surveyed.items())
            report = Report(sources=sources, broken=tuple(self.broken))
            report = report.model_copy(update={"warnings": self.warnings})
            return instance, report
        self.read.append(name)
        await asyncio.sleep(0)
        return instance, self.files[name]

    def keep_templates(self, sources: Iterable[SourceInfo]) -> None:
        assert [*sources] == self.catalogue.sources

    async def refresh(self) -> "Project":
        self.read.clear()
        await self.reloader.refresh()
        return self

    @property
    def served(self) -> dict[str, str]:
        """Name → code of what is served."""
        assert [*self.lanes.assigned.values()] == self.catalogue.versions
        return {each.name: each.spec.code for each in self.catalogue.versions}

    @property
    def states(self) -> dict[str, str]:
        return {each.spec.name: each.state for each in self.snapshot.functions}

    @property
    def snapshot(self) -> CatalogueSnapshot:
        return self.catalogue.snapshot("cpu-0")


async def with_(*files: tuple[str, str, tuple[str, ...]], pool: str = "cpu") -> Project:
    """A project with these files, read."""
    project = Project(pool)
    for name, code, functions in files:
        project.write(name, code, *functions)
    return await project.refresh()


ONE = ("boston", "1", ("train", "predict"))


# --- what is served --------------------------------------------------------------------------


async def test_good_files_are_served_and_what_read_them_is_stopped() -> None:
    project = await with_(ONE, ("iris", "1", ("fit",)))
    assert project.served == {"boston.train": "1", "boston.predict": "1", "iris.fit": "1"}
    assert set(project.states.values()) == {"live"}
    assert project.catalogue.loading == set()
    assert all(instance.is_stopped for instance in project.instances)


async def test_before_the_first_look_anything_may_come() -> None:
    assert Project().snapshot.loading == ("*",)


async def test_while_a_file_is_read_it_is_told_to_be_loading() -> None:
    project = Project()
    project.write(*ONE[:2], *ONE[2])
    await project.refresh()
    assert project.peers.loading == [{"boston"}, set()]


async def test_a_look_that_is_cut_short_does_not_say_that_it_is_at_its_end() -> None:
    project = Project()
    project.write(*ONE[:2], *ONE[2])
    looking = asyncio.create_task(project.refresh())
    for _ in range(10):
        if not project.read:
            await asyncio.sleep(0)
    looking.cancel()
    await asyncio.wait({looking})
    assert looking.cancelled()
    assert project.peers.loading == [{"boston"}]


async def test_a_file_that_has_not_changed_is_not_read_again() -> None:
    project = await with_(ONE, ("iris", "1", ("fit",)))
    project.write("iris", "2", "fit")
    await project.refresh()
    assert project.read == ["iris"]
    assert project.served["iris.fit"] == "2"


@pytest.mark.parametrize(
    ("pools", "is_read"),
    [(("cpu",), True), (("cpu", "gpu"), True), (None, True), (("gpu",), False)],
)
async def test_a_file_is_read_only_where_it_may_have_functions(
    pools: tuple[str, ...] | None, is_read: bool
) -> None:
    project = Project("cpu")
    project.write("mine", "1", "f", pools=pools)
    await project.refresh()
    assert project.read == (["mine"] if is_read else [])


async def test_of_a_file_each_pool_serves_its_own_functions() -> None:
    project = Project("gpu")
    project.write("mine", "1", "here", pool="gpu", pools=None)
    project.files["mine"] = Report(
        specs=(*project.files["mine"].specs, spec_of("mine.there", pool="cpu")), code="1"
    )
    await project.refresh()
    assert set(project.served) == {"mine.here"}


async def test_light_files_are_served_before_those_that_need_libraries() -> None:
    project = Project()
    project.write("a_heavy", "1", "f", libraries=("keras",), imports=("keras",))
    project.write("b_light", "1", "f")
    await project.refresh()
    assert project.read == ["b_light", "a_heavy"]


# --- new code --------------------------------------------------------------------------------


async def test_new_code_takes_the_place_of_the_old() -> None:
    project = await with_(ONE)
    old = project.catalogue.versions
    project.write("boston", "2", *ONE[2])
    await project.refresh()
    assert project.served == {"boston.train": "2", "boston.predict": "2"}
    assert project.lanes.tasks.retired == project.lanes.retired == old
    assert project.metrics.reloads == {"swapped": 1}


async def test_a_function_is_warm_in_its_new_version_before_calls_move() -> None:
    project = await with_(ONE)
    project.lanes.warmed.clear()
    project.write("boston", "2", *ONE[2])
    await project.refresh()
    assert project.lanes.warmed == project.catalogue.versions


async def test_new_code_that_cannot_serve_leaves_the_old_serving_and_nothing_behind() -> None:
    project = await with_(ONE)
    project.lanes.cold = BrokenFile(file="/project/functions/boston.py", error="it died")
    project.write("boston", "2", *ONE[2])
    await project.refresh()
    assert project.served == {"boston.train": "1", "boston.predict": "1"}
    assert set(project.states.values()) == {"stale"}
    assert project.lanes.warmed[-1] in project.lanes.retired
    assert {version.spec.code for version in project.lanes.retired} == {"2"}
    assert project.lanes.tasks.retired == []


async def test_functions_that_are_gone_from_a_file_are_dropped_and_new_ones_served() -> None:
    project = await with_(ONE)
    gone = project.catalogue.assigned["boston.train"].version
    project.write("boston", "2", "predict", "explain")
    await project.refresh()
    assert set(project.served) == {"boston.predict", "boston.explain"}
    assert gone in project.lanes.retired
    assert gone in project.lanes.tasks.retired


async def test_a_file_that_is_gone_is_served_no_more() -> None:
    project = await with_(ONE, ("iris", "1", ("fit",)))
    del project.surveyed["boston"]
    await project.refresh()
    assert project.served == {"iris.fit": "1"}
    retired = sorted(version.name for version in project.lanes.retired)
    assert retired == ["boston.predict", "boston.train"]


async def test_a_file_that_goes_while_it_is_read_is_not_broken() -> None:
    project = await with_(ONE)
    project.spoil("boston", "2")
    project.deleted.add("boston")
    await project.refresh()
    assert project.catalogue.broken == []
    del project.surveyed["boston"]
    assert (await project.refresh()).served == {}


async def test_a_function_that_moves_to_another_pool_is_served_here_no_more() -> None:
    project = await with_(ONE)
    project.write("boston", "2", *ONE[2], pool="gpu")
    await project.refresh()
    assert project.served == {}


# --- broken code -----------------------------------------------------------------------------


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What the log has said of broken files."""
    with caplog.at_level(logging.ERROR):
        yield lambda: [record.getMessage() for record in caplog.records]


def asks_for(*names: str, **more: Any) -> dict[str, Any]:
    """The input schema of a function with these parameters."""
    members = {name: {"type": "number"} for name in names}
    closed = {"type": "object", "additionalProperties": False}
    return closed | {"properties": members, "required": [*names]} | more


@pytest.mark.parametrize(
    ("name", "schema", "told"),
    [
        (
            "predict",
            asks_for("lstat", "rooms"),
            ["boston.predict now asks for `rooms`, which callers have not sent so far"],
        ),
        ("predict", asks_for(), ["boston.predict now takes no `lstat` any more"]),
        (
            "predict",
            asks_for("lstat", properties={"lstat": {"type": "integer"}}),
            ["boston.predict now takes integer, where number was right"],
        ),
        ("predict", asks_for("lstat", required=[]), []),
        ("_predict", asks_for("lstat", "rooms"), []),
    ],
)
async def test_a_reload_that_refuses_what_was_right_says_so_once(
    name: str, schema: dict[str, Any], told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """fastapi/fastapi#896: a second parameter changes what the first one's callers must send."""
    project = Project()
    for code, each in (("1", asks_for("lstat")), ("2", schema), ("3", schema)):
        project.write("boston", code, name)
        spec = spec_of(f"boston.{name}", code=code, input_schema=each)
        project.files["boston"] = Report(specs=(spec,), code=code)
        await project.refresh()
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [text.partition(" (input")[0] for text in said] == told


async def test_a_file_that_does_not_load_leaves_its_good_version_serving(
    said: Callable[[], list[str]],
) -> None:
    project = await with_(ONE)
    project.spoil("boston", "2")
    await project.refresh()
    assert project.served == {"boston.train": "1", "boston.predict": "1"}
    assert project.lanes.tasks.retired == project.lanes.retired == []
    assert set(project.states.values()) == {"stale"}
    (broken,) = project.catalogue.broken
    assert (broken.file, broken.line) == ("functions/boston.py", 3)
    assert broken.functions == ("boston.train", "boston.predict")
    (told,) = said()
    assert "functions/boston.py:3 could not be loaded: NameError: np" in told
    assert "boston.train, boston.predict stay as they were" in told


async def test_a_file_that_does_not_parse_leaves_its_good_version_serving() -> None:
    project = await with_(ONE)
    project.garble("boston")
    await project.refresh()
    assert set(project.states.values()) == {"stale"}
    assert project.catalogue.broken[0].functions == ("boston.train", "boston.predict")


async def test_a_file_that_is_put_right_is_served_again() -> None:
    project = await with_(ONE)
    project.spoil("boston", "2")
    await project.refresh()
    project.write("boston", "3", *ONE[2])
    await project.refresh()
    assert project.served["boston.train"] == "3"
    assert set(project.states.values()) == {"live"}
    assert project.catalogue.broken == []


async def test_a_file_that_is_put_back_as_it_was_is_well_again() -> None:
    project = await with_(ONE)
    project.garble("boston")
    await project.refresh()
    project.broken = []
    project.write("boston", "1", *ONE[2])
    await project.refresh()
    assert project.catalogue.broken == []
    assert set(project.states.values()) == {"live"}


async def test_a_broken_file_is_told_once_with_what_is_wrong_with_it_now() -> None:
    project = await with_(ONE)
    project.spoil("boston", "2")
    await project.refresh()
    project.garble("boston")
    await project.refresh()
    assert [item.error for item in project.catalogue.broken] == ["SyntaxError: never closed"]


async def test_a_function_that_is_wrong_stays_as_it_was_beside_the_new_ones(
    said: Callable[[], list[str]],
) -> None:
    project = await with_(ONE)
    project.write("boston", "2", "predict", "evaluate")
    project.mar("boston", "train", "advise")
    await project.refresh()
    assert project.served == {
        "boston.train": "1",
        "boston.predict": "2",
        "boston.evaluate": "2",
    }
    assert project.states["boston.train"] == "stale"
    assert project.states["boston.predict"] == "live"
    assert [item.functions for item in project.catalogue.broken] == [("boston.train",), ()]
    told = said()
    assert "boston.train in functions/boston.py:3 could not be loaded: DefinitionError" in told[0]
    assert "boston.train stay as they were" in told[0]
    assert "boston.advise in functions/boston.py:3" in told[1]
    project.write("boston", "3", *ONE[2])
    await project.refresh()
    assert project.served == {"boston.train": "3", "boston.predict": "3"}
    assert project.catalogue.broken == []


async def test_one_broken_file_does_not_touch_the_others() -> None:
    project = await with_(ONE, ("iris", "1", ("fit",)))
    project.spoil("boston", "2")
    project.write("iris", "2", "fit")
    await project.refresh()
    assert project.served["iris.fit"] == "2"
    assert project.states["iris.fit"] == "live"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionError("its process was killed by SIGSEGV"), "killed by SIGSEGV"),
        (TimeoutError(), "did not load within 120 s"),
    ],
)
async def test_a_file_whose_reading_ends_its_process_is_broken(error: Exception, told: str) -> None:
    project = await with_(ONE)
    project.write("boston", "2", *ONE[2])
    project.errors["boston"] = error
    await project.refresh()
    assert told in project.catalogue.broken[0].error
    assert project.served["boston.train"] == "1"


async def test_a_broken_file_is_not_read_again_until_it_changes(
    said: Callable[[], list[str]],
) -> None:
    project = await with_(ONE)
    project.spoil("boston", "2")
    await project.refresh()
    await project.refresh()
    assert project.read == []
    assert len(said()) == 1


async def test_a_plugin_that_fails_when_a_file_is_read_is_told_and_the_file_served(
    said: Callable[[], list[str]],
) -> None:
    project = Project()
    plugin = BrokenFile(file="/project/plugins/mine.py", line=5, error="RuntimeError: no")
    project.write(*ONE[:2], *ONE[2])
    project.files["boston"] = project.files["boston"].model_copy(update={"left_out": (plugin,)})
    await project.refresh()
    assert set(project.states.values()) == {"live"}
    (broken,) = project.catalogue.broken
    assert (broken.file, broken.line) == ("plugins/mine.py", 5)
    (told,) = said()
    assert "plugins/mine.py:5" in told


async def test_a_survey_that_ends_its_process_leaves_everything_as_it_was() -> None:
    project = await with_(ONE)
    project.errors["*"] = ConnectionError("its process exited with code 3")
    await project.refresh()
    assert project.served == {"boston.train": "1", "boston.predict": "1"}
    assert "its process exited with code 3" in project.catalogue.broken[0].error
    del project.errors["*"]
    await project.refresh()
    assert project.catalogue.broken == []


async def test_a_project_that_cannot_be_surveyed_makes_nobody_wait() -> None:
    project = Project()
    project.errors["*"] = TimeoutError()
    await project.refresh()
    assert project.snapshot.loading == ()
    assert len(project.peers.loading) == 1


async def test_looks_that_come_together_are_taken_one_after_the_other() -> None:
    project = Project()
    project.write(*ONE[:2], *ONE[2])
    await asyncio.gather(project.reloader.refresh(), project.reloader.refresh())
    assert project.read == ["boston"]


# --- what may come yet ---


async def test_nothing_is_settled_before_the_project_has_been_read() -> None:
    project = Project()
    assert project.catalogue.unsettled == {"*"}
    project.write("f", "c1", "one")
    await project.refresh()
    assert project.catalogue.unsettled == set()


async def test_broken_files_are_unsettled_whether_they_parse_or_not() -> None:
    project = Project()
    project.write("f", "c1", "one")
    project.write("g", "c1", "one")
    await project.refresh()
    project.spoil("f", "c2")
    project.garble("g")
    await project.refresh()
    assert project.catalogue.unsettled == {"f", "g"}
    project.write("f", "c3", "one")
    project.broken = []
    await project.refresh()
    assert project.catalogue.unsettled == set()


async def test_a_broken_plugin_may_have_brought_any_function() -> None:
    project = Project()
    project.broken = [BrokenFile(file="/project/plugins/mine.py", line=1, error="NameError: np")]
    await project.refresh()
    assert project.catalogue.unsettled == {"*"}


# --- settings of plugins ---


async def test_a_file_is_read_with_the_settings_of_the_plugin_that_named_it() -> None:
    tables = {"vault": {"token": "SESAME"}, "other": {}}
    project = Project(plugins=tables)
    project.write("mine", "1", "f", plugin="vault")
    project.write("yours", "1", "f", plugin="functions")
    await project.refresh()
    jobs = {
        each.job.source.name if each.job.source else "*": each.job for each in project.instances
    }
    assert jobs["*"].set_up == {"vault", "other"}
    assert jobs["mine"].settings == PluginTable(title="plugins.vault", values=tables["vault"])
    assert jobs["*"].settings is jobs["yours"].settings is None


async def test_what_is_odd_is_logged_once_and_by_one_host(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for pool in ("cpu", "gpu"):
        project = Project(pool)
        project.warnings = ("one is odd.", "two is odd.")
        await project.refresh()
        await project.refresh()
        project.warnings = ("one is odd.", "three is odd.")
        await project.refresh()
    assert [each.getMessage() for each in caplog.records if "odd" in each.getMessage()] == [
        "one is odd.",
        "two is odd.",
        "three is odd.",
    ]


# --- read again, and restored ------------------------------------------------------------------


async def test_a_file_that_did_not_load_is_read_again_for_who_wants_a_function_of_it() -> None:
    """Pylons/hupper#24"""
    project = await with_(ONE)
    project.spoil("boston", "2")
    await project.refresh()
    project.read.clear()
    await project.reloader.again("boston.train")
    assert project.read == [], "it has just been read"
    project.reloader._again._tried.clear()  # time passes
    project.write("boston", "1", *ONE[2])
    await project.reloader.again("boston.train")
    assert project.read == ["boston"]
    assert project.catalogue.broken == []
    assert set(project.states.values()) == {"live"}


@pytest.mark.parametrize("name", ["other.f", "boston.train", "boston"])
async def test_what_loads_is_not_read_again(name: str) -> None:
    project = await with_(ONE)
    project.read.clear()
    await project.reloader.again(name)
    assert project.read == []


async def test_other_files_are_left_as_they_are_when_one_is_read_again() -> None:
    project = await with_(ONE)
    project.write("digits", "1", "f")
    await project.refresh()
    project.garble("boston")
    await project.refresh()
    project.reloader._again._tried.clear()
    project.broken.clear()
    project.write("boston", "1", *ONE[2])
    project.write("digits", "2", "f")
    project.read.clear()
    await project.reloader.again("boston.train")
    assert project.read == ["boston"]


async def test_the_same_mistake_is_logged_once(said: Callable[[], list[str]]) -> None:
    project = await with_(ONE)
    project.spoil("boston", "2")
    await project.refresh()
    for _ in range(3):
        project.reloader._again._tried.clear()
        await project.reloader.again("boston.train")
    assert project.read.count("boston") > 3
    assert len(said()) == 1
    assert project.metrics.reloads["broken"] == 1


async def test_what_the_host_before_served_is_served_where_the_file_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    texts = (ModuleText(name="functions.boston", file=Path("/project/b.py"), text=b"1"),)
    before = await with_(ONE)
    before.files["boston"] = before.files["boston"].model_copy(update={"texts": texts})
    before.surveyed["boston"]["code"] = "1b"
    await before.refresh()
    after = Project()
    after.write("boston", "1", *ONE[2])
    after.files["boston"] = before.files["boston"]
    after.garble("boston")
    await after.refresh()
    assert set(after.states.values()) == {"stale"}
    assert [v.texts for v in after.catalogue.versions] == [texts] * 2
