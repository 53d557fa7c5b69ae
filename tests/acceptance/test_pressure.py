"""Brokers, databases and disks that go away under load: what was accepted is not lost, direct calls
go on, and all is well again by itself once they are back.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from skipper.tasks import broker
from tests.acceptance.conftest import PLAIN
from tests.acceptance.load import Busy, calls
from tests.acceptance.tree import Gate, Tree, lent, project, until
from tests.integration.services import Server, private_postgres, private_rabbitmq, project_name

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300)]

FILES = ("bad", "bodies", "hold")
LEASE_S = 12.0
"""Longer than a host may be silent before it is held to be lost."""
WAIT_S = 15.0
"""As long as a submission may wait for the ledger, and a little."""
DISK = "24m"


def planted(folder: Path, toml: str) -> Path:
    """A project with some of the functions of ``plain``."""
    functions = {stem: (PLAIN / "functions" / f"{stem}.py").read_text() for stem in FILES}
    return project(folder, toml, **functions)


# --- a broker and a database of its own ---------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Site:
    """A tree, and the servers it stands on."""

    tree: Tree
    broker: Server
    database: Server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with private_rabbitmq() as rabbit, private_postgres() as postgres:
        toml = f"""
[project]
name = "{project_name()}"
[broker]
url = "{rabbit.url}"
[database]
url = "{postgres.url}"
[pools.cpu]
task_slots = 4
"""
        with lent(Tree(planted(tmp_path_factory.mktemp("site") / "project", toml))) as tree:
            yield Site(tree=tree.ready(), broker=rabbit, database=postgres)
            tree.end()
            assert "Traceback" not in tree.output


def accepts(response: httpx.Response) -> str:
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def test_while_the_broker_is_down_calls_go_on_and_tasks_are_accepted_run_and_ended(
    site: Site, gate: Gate
) -> None:
    tree = site.tree
    before = tree.pids()
    running = [tree.submit("hold.task", gate.body) for _ in range(2)]
    gate.wait_for(2)
    with calls(tree) as others:
        site.broker.kill()
        accepted = [tree.submit("bodies.add", {"x": x}) for x in range(5)]
        assert [tree.result(id_) for id_ in accepted] == [10, 11, 12, 13, 14]
        hung = tree.ended(tree.submit("bad.holds_the_lock"))
        assert hung["state"] == "timed_out"
        gate.open()
        assert [tree.result(id_) for id_ in running] == ["through"] * 2
        assert tree.is_ready()
        site.broker.start()
        until(lambda: _consumers(tree) == 1, what="a consumer that is back")
    assert others.troubles == []
    assert tree.pids() == before
    assert tree.result(tree.submit("bodies.add", {"x": 1})) == 11
    until(lambda: _messages(tree) == 0, what="an empty queue")


def _declared(tree: Tree) -> Any:
    with broker._kombu().Connection(tree.settings.broker_url) as connection:
        queue = broker.queue_of(tree.settings, "cpu")
        return queue(connection.default_channel).queue_declare(passive=True)


def _consumers(tree: Tree) -> int:
    return int(_declared(tree).consumer_count)


def _messages(tree: Tree) -> int:
    return int(_declared(tree).message_count)


def test_a_broker_that_is_out_of_memory_keeps_nobody_waiting(site: Site) -> None:
    """It then takes no messages, and says so to nobody."""
    tree = site.tree
    with _alarm(site.broker), calls(tree) as others:
        begun = time.monotonic()
        accepted = [tree.submit("bodies.add", {"x": x}) for x in range(20)]
        assert time.monotonic() - begun < 10
        assert [tree.result(id_) for id_ in accepted] == list(range(10, 30))
    assert others.troubles == []
    assert tree.result(tree.submit("bodies.add", {"x": 1})) == 11


@contextlib.contextmanager
def _alarm(server: Server) -> Iterator[None]:
    alarm = "{resource_limit, memory, node()}"
    _evaluate(server, f"rabbit_alarm:set_alarm({{{alarm}, []}}).")
    try:
        yield
    finally:
        _evaluate(server, f"rabbit_alarm:clear_alarm({alarm}).")


def _evaluate(server: Server, text: str) -> None:
    program = Path(server.command[0]).with_name("rabbitmqctl")
    subprocess.run([program, "eval", text], check=True, env=server.environment, capture_output=True)


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What became of one submission, and how long that took."""

    status: int
    id: str = ""
    took_s: float


def submits(tree: Tree, said: list[Submitted]) -> Busy:
    """Submissions, one after the other, each noted in ``said``."""

    def submit() -> int:
        begun = time.monotonic()
        response = tree.invoke("bodies.add", {"x": 1}, prefer="respond-async")
        assert response.status_code in (202, 503), response.text
        took_s = time.monotonic() - begun
        id_ = response.json()["id"] if response.status_code == 202 else ""
        said.append(Submitted(status=response.status_code, id=id_, took_s=took_s))
        return response.status_code

    return Busy(submit)


@pytest.mark.parametrize(
    ("how", "away_s"), [("kill", LEASE_S), ("stop", 1.0)], ids=["killed", "restarted"]
)
def test_a_database_that_goes_away_loses_no_task_and_costs_no_host_its_place(
    site: Site, gate: Gate, how: str, away_s: float
) -> None:
    tree, said = site.tree, list[Submitted]()
    before = tree.pids()
    running = [tree.submit("hold.task", gate.body) for _ in range(2)]
    gate.wait_for(2)
    with calls(tree) as others, submits(tree, said), submits(tree, said):
        until(lambda: len(said) > 20)
        getattr(site.database, how)()
        gone = time.monotonic()
        gate.open()  # they end while nothing can be written
        until(lambda: time.monotonic() - gone > away_s)
        site.database.start()
        until(lambda: said[-1].status == 202, what="a task that is accepted again")
        for id_ in running:
            task = tree.ended(id_)
            assert (task["state"], task["attempt"]) == ("succeeded", 1), task
    assert others.troubles == []
    assert tree.pids() == before, "a host was held to be lost"
    assert max(each.took_s for each in said) < WAIT_S
    accepted = [each.id for each in said if each.id]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tree.result, accepted)) == [11] * len(accepted)


# --- a disk of its own ---------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A project's folder whose ``.skipper``, with ledger, blobs and logs, is on a small disk."""
    folder = planted(tmp_path / "small", "[pools.cpu]\ntask_slots = 2\n")
    state = folder / ".skipper"
    state.mkdir(mode=0o700)
    if os.getuid() != 0:
        pytest.skip("only root may mount a disk that is soon full")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(state)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)


def fill(folder: Path) -> Path:
    """Use up what is left of a disk; the file that does."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 4096)
    return ballast


def test_a_full_disk_refuses_new_tasks_and_loses_none(small_disk: Path, gate: Gate) -> None:
    with lent(Tree(small_disk)) as tree:
        tree.ready()
        before = tree.pids()
        running = tree.submit("hold.task", gate.body)
        gate.wait_for()
        accepted = [tree.submit("bodies.add", {"x": 1})]
        with calls(tree) as others:
            ballast = fill(tree.settings.state_dir)
            refused, more = _submit_until_refused(tree)
            accepted += more
            assert "full" in refused.json()["detail"]
            assert refused.headers["Retry-After"]
            bulky = tree.invoke("bodies.size", {"text": "x" * 200_000}, prefer="respond-async")
            assert bulky.status_code == 507
            assert "cannot be stored" in bulky.json()["detail"]
            gate.open()
            full = time.monotonic()
            until(lambda: time.monotonic() - full > LEASE_S)
            ballast.unlink()
            assert tree.result(running) == "through"
        assert others.troubles == []
        assert tree.pids() == before, "a host was held to be lost"
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(tree.result, accepted)) <= {11, 60_000}
        assert tree.task(running)["attempt"] == 1
        assert tree.result(tree.submit("bodies.add", {"x": 2})) == 12
        tree.end()
        assert "Traceback" not in tree.output


def _submit_until_refused(tree: Tree) -> tuple[httpx.Response, list[str]]:
    """Submit until a submission is refused; it, and the ids of those before it."""
    accepted: list[str] = []
    while True:
        response = tree.invoke("bodies.size", {"text": "x" * 60_000}, prefer="respond-async")
        if response.status_code != 202:
            assert response.status_code == 503, response.text
            return response, accepted
        accepted.append(accepts(response))
