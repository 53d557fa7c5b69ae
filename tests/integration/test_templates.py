"""Templates as real processes, and the instances that are forked from them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Never

import pytest

from skipper.instance.jobs import Job, JobKind, ModuleText, Report, SourceInfo
from skipper.pool.processes import starter as starters
from skipper.pool.processes.instance import Instance
from skipper.pool.processes.instances import Instances
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.processes.starter import FORK_S, Starter
from skipper.settings.model import Settings
from skipper.wire.messages import TemplateInfo
from tests.unit.pool.played import Nobody

LIMIT_S = 30.0
FUNCTIONS = """
import {library}
import os
import skipper

@skipper.data
def f() -> int:
    return os.getpid()
"""

pytestmark = pytest.mark.skipif(not starters.CAN_FORK, reason="templates fork on Linux alone")


class Pool:
    """The instances of one pool, whose functions import one library of the test's own."""

    def __init__(self, folder: Path, start: str = "auto", fork_s: float = FORK_S) -> None:
        settings = Settings.model_validate(
            {"project_dir": folder, "pools": {"cpu": {"start": start}}}
        )
        (folder / "functions").mkdir()
        self.folder, self.packages = folder, folder / "site-packages"
        self.packages.mkdir()
        self.starter = Starter(settings.pools["cpu"], "t3st", fork_s=fork_s)
        self.starter._environment["PYTHONPATH"] = os.pathsep.join(
            [*filter(None, [os.environ.get("PYTHONPATH")]), str(self.packages)]
        )
        self.instances = Instances(settings, "cpu", self.starter, Nobody(), Quarantine())

    async def close(self) -> None:
        await self.instances.close()
        self.starter.close()

    def install(self, name: str, text: str = "") -> None:
        """Put a library where the template finds it."""
        (self.packages / f"{name}.py").write_text(text)

    def source(self, library: str) -> SourceInfo:
        """A file of functions that imports ``library``."""
        file = self.folder / "functions" / "f.py"
        file.write_text(FUNCTIONS.format(library=library))
        return SourceInfo(
            name="f",
            file=file,
            module="functions.f",
            origin="functions",
            code="c0de",
            imports=(library,),
            libraries=(library,),
            pools=("cpu",),
        )

    async def serve(self, source: SourceInfo) -> tuple[Instance[Never], Report]:
        """An instance that serves the file's function, or says what is wrong with the file."""
        job = Job(
            kind=JobKind.SERVE,
            project_dir=self.folder,
            source=source,
            texts=(
                ModuleText(name=source.module, file=source.file, text=source.file.read_bytes()),
            ),
            function="f.f",
            storage_url=str(self.folder / "blobs"),
            tmp_dir=self.folder / "tmp",
        )
        async with asyncio.timeout(LIMIT_S):
            return await self.instances.run(job, Nobody())

    @property
    def templates(self) -> dict[str, int]:
        """By the library that they hold: process ids."""
        return {",".join(each.libraries): each.pid for each in self.described}

    @property
    def described(self) -> tuple[TemplateInfo, ...]:
        return self.starter.describe()


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Pool]:
    made = Pool(tmp_path)
    yield made
    await made.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what processes do: there is no event to wait on."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.005)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_fork(instance: Instance[Never]) -> bool:
    """Whether it was not started as a program of its own."""
    return b"skipper.instance.template" in Path(f"/proc/{instance.pid}/cmdline").read_bytes()


async def test_an_instance_is_forked_and_is_the_hosts_own_child(pool: Pool) -> None:
    pool.install("lib_plain")
    instance, report = await pool.serve(pool.source("lib_plain"))
    assert report.broken == ()
    assert is_fork(instance)
    assert parent_of(instance.pid) == os.getpid()
    assert [each.forks for each in pool.described] == [True]


async def test_the_death_of_a_template_touches_no_instance_and_the_next_start_has_another(
    pool: Pool,
) -> None:
    pool.install("lib_plain")
    source = pool.source("lib_plain")
    first, _ = await pool.serve(source)
    dead = pool.templates["lib_plain"]
    os.kill(dead, signal.SIGKILL)
    await until(lambda: dead not in pool.starter.pids)
    second, report = await pool.serve(source)
    assert report.broken == ()
    assert is_fork(second)
    assert first.is_alive
    assert pool.templates["lib_plain"] != dead


async def test_a_template_whose_library_starts_threads_does_not_fork(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    pool.install(
        "lib_threads",
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n",
    )
    source = pool.source("lib_threads")
    source.file.write_text(source.file.read_text().replace("import lib_threads", ""))
    instance, report = await pool.serve(source)
    assert report.broken == ()
    assert not is_fork(instance)
    assert [each.forks for each in pool.described] == [False]
    assert "instances are spawned" in caplog.text


async def test_a_template_that_hangs_is_replaced_and_the_instance_spawned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(tmp_path, fork_s=2.0)  # which is long for a fork, and short enough to wait for
    pool.install("lib_plain")
    source = pool.source("lib_plain")
    await pool.serve(source)
    hung = pool.templates["lib_plain"]
    os.kill(hung, signal.SIGSTOP)
    source.file.write_text(source.file.read_text().replace("import lib_plain", ""))
    first, second = await asyncio.gather(pool.serve(source), pool.serve(source))
    assert {report.broken for _, report in (first, second)} == {()}
    assert not is_fork(first[0])
    assert "a template failed and is replaced" in caplog.text
    await pool.serve(source)
    assert pool.templates["lib_plain"] != hung
    await pool.close()


async def test_a_template_that_dies_while_it_forks_costs_no_instance(pool: Pool) -> None:
    pool.install("lib_dies", "import os\nos.fork = lambda: os._exit(1)\n")
    source = pool.source("lib_dies")
    source.file.write_text(source.file.read_text().replace("import lib_dies", ""))
    instance, report = await pool.serve(source)
    assert report.broken == ()
    assert not is_fork(instance)


@pytest.mark.parametrize("what", ["itself", "what it imports", "what was missing"])
async def test_a_template_is_made_anew_when_something_is_installed(pool: Pool, what: str) -> None:
    pool.install("lib_inner")
    if what != "what was missing":
        pool.install("lib_outer", "import lib_inner\n")
    source = pool.source("lib_outer")
    _, report = await pool.serve(source)
    assert bool(report.broken) is (what == "what was missing")
    before = pool.templates["lib_outer"]
    await pool.serve(source)
    assert pool.templates["lib_outer"] == before
    if what == "what it imports":
        (pool.packages / "lib_inner-2.dist-info").mkdir()
    else:
        pool.install("lib_outer", "import lib_inner\nversion = 2\n")
        os.utime(pool.packages)
    instance, report = await pool.serve(source)
    assert report.broken == ()
    assert is_fork(instance)
    assert pool.templates["lib_outer"] != before


async def test_a_template_that_no_file_needs_is_retired(pool: Pool) -> None:
    for name in ("lib_one", "lib_two"):
        pool.install(name)
        await pool.serve(pool.source(name))
    assert set(pool.templates) == {"lib_one", "lib_two"}
    retired = pool.templates["lib_one"]
    pool.starter.keep([pool.source("lib_two")])
    assert set(pool.templates) == {"lib_two"}
    await until(lambda: not Path(f"/proc/{retired}").exists())


async def test_where_settings_say_so_every_instance_is_spawned(tmp_path: Path) -> None:
    pool = Pool(tmp_path, start="spawn")
    pool.install("lib_plain")
    source = pool.source("lib_plain")
    source.file.write_text(source.file.read_text().replace("import lib_plain", ""))
    instance, report = await pool.serve(source)
    assert report.broken == ()
    assert not is_fork(instance)
    assert pool.templates == {}
    await pool.close()
