"""Skipper under test: ``skipper up`` on a project of its own in a temporary folder."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import peers
from bench.calls import Caller, calling, until
from bench.processes import Server, free_port, running, start
from skipper.launcher import client
from skipper.settings.loading import load
from skipper.settings.model import Settings

FUNCTIONS = peers.ROOT / "bench" / "functions"
READY_S = 180.0


class Tree:
    """A running tree."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self.server, self.settings = server, settings
        self.port = settings.gateway.port

    def url(self, function: str) -> str:
        return f"http://127.0.0.1:{self.port}{path(function)}"

    def wait_ready(self) -> None:
        """Return once every file is read, every consumer is there, and all templates are warm."""
        with calling(self.port) as caller:
            until(lambda: self._is_ready(caller), READY_S, "the tree is ready")

    def _is_ready(self, caller: Caller) -> bool:
        if self.server.process.poll() is not None:
            raise ConnectionError(f"skipper up ended with {self.server.process.returncode}")
        with contextlib.suppress(OSError):
            if caller.ask("GET", "/readyz").status == 200:
                return all(each["state"] == "ready" for each in self.templates(caller))
        return False

    def pool(self, caller: Caller) -> dict[str, Any]:
        """What the host of the cpu pool tells of itself."""
        pools: list[dict[str, Any]] = caller.get("/v1/pools")["items"]
        return next(pool for pool in pools if pool["pool"] == "cpu")

    def templates(self, caller: Caller) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.pool(caller)["templates"]
        return found

    def instances(self, caller: Caller, function: str) -> list[int]:
        """The processes that serve direct calls of a function."""
        return [
            each["pid"]
            for each in self.pool(caller)["instances"]
            if each["function"] == function and each["lane"] == "direct"
        ]

    def pids(self) -> dict[str, int]:
        """The launcher's children by name: gateway, scheduler, cpu, cpu-consumer…"""
        told = client.status(self.settings) or {}
        return {child["name"]: child["pid"] for child in told.get("children", ()) if child["pid"]}

    def succeeded(self, caller: Caller, function: str) -> int:
        """How many tasks of a function have succeeded, as /metrics tells."""
        return sum(
            int(float(line.rpartition(" ")[2]))
            for line in caller.text("/metrics").splitlines()
            if line.startswith("skipper_tasks_total{")
            and f'function="{function}"' in line
            and 'state="succeeded"' in line
        )

    def run_task(self, caller: Caller, function: str, body: bytes) -> None:
        """Run a task to its good end."""
        answer = caller.post(path(function), body, {"Prefer": "respond-async"})
        place = answer.headers["location"]
        ended = {"succeeded", "failed", "timed_out", "cancelled", "crashed", "expired"}
        until(lambda: caller.get(place)["state"] in ended, READY_S, f"{function} has ended")
        caller.get(f"{place}/result")  # not a good one where the task has not succeeded


def path(function: str) -> str:
    """Where a function is called."""
    return f"/v1/functions/{function}/invoke"


@contextlib.contextmanager
def planted(
    files: Iterable[str | tuple[str, str]], settings: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """A project: ``files`` name some of bench/functions, or are a name and its text."""
    with tempfile.TemporaryDirectory(prefix="skipper-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        functions = folder / "functions"
        functions.mkdir()
        for file in files:
            if isinstance(file, str):
                shutil.copy(FUNCTIONS / file, functions / file)
            else:
                (functions / file[0]).write_text(file[1], encoding="utf-8")
        given = {"project.name": f"bench-{secrets.token_hex(4)}", "gateway.port": free_port()}
        lines = [f"{key} = {_toml(value)}" for key, value in (given | dict(settings or {})).items()]
        (folder / "skipper.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield folder


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


@contextlib.contextmanager
def up(
    folder: Path, *arguments: str, ready: bool = True, python: Path | None = None
) -> Iterator[Tree]:
    """``skipper up`` on a project for as long as the block lasts; ready, unless asked otherwise.

    ``python`` is the interpreter of the checkout to start, by default this one's.
    """
    command: list[str | Path] = [
        python or sys.executable,
        "-m",
        "skipper",
        "up",
        "--project",
        folder,
    ]
    server = start([*command, *arguments], "skipper", folder=folder)
    with running(server):
        tree = Tree(server, load(folder)[0])
        if ready:
            tree.wait_ready()
        yield tree


@contextlib.contextmanager
def tree_of(
    files: Iterable[str | tuple[str, str]], settings: Mapping[str, str] | None = None
) -> Iterator[Tree]:
    """A ready tree on a project of its own."""
    with planted(files, settings) as folder, up(folder) as tree:
        yield tree
