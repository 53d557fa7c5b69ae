"""One launcher and all below it, seen from outside: processes by role, and what they leave."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from skipper.errors import SkipperError
from skipper.launcher import client
from skipper.settings.loading import load
from skipper.settings.model import Settings

PROJECT = Path(__file__).with_name("project")
START_LIMIT_S = 60.0
END_LIMIT_S = 10.0
"""Within this nothing may be left of a tree that has ended, or whose launcher was killed."""
TERMINATED = 143
"""A launcher's exit code after SIGTERM."""
_UP = (sys.executable, "-P", "-m", "skipper", "up")
_STEP_S = 0.05
_LAST_LINE = "# version "
_HOSTS = ("cpu", "gpu")
_CHILDREN = {
    "host": _HOSTS,
    "consumer": ("cpu-consumer", "gpu-consumer"),
    "gateway": ("gateway",),
    "scheduler": ("scheduler",),
    "broker": ("broker",),
}


def role_of(name: str) -> str:
    """The role that the process of this name fills."""
    return next((role for role, names in _CHILDREN.items() if name in names), name)


class Machine:
    """``skipper up FLAGS`` on a project of its own in ``folder``, with ``toml`` as its settings.

    ``name`` stands before the names of its processes.
    """

    def __init__(self, folder: Path, toml: str, *flags: str, name: str = "") -> None:
        self.folder, self.name, self._flags = folder, name, flags
        # Not SKIPPER_…, which the tree does not hand on to its children.
        self._mark = f"CHAOS_TREE={secrets.token_hex(8)}"
        self._launcher: subprocess.Popen[bytes] | None = None
        shutil.copytree(PROJECT, folder, dirs_exist_ok=True)
        (folder / "skipper.toml").write_text(toml)
        self.settings: Settings = load(folder)[0]
        self.failpoints = folder / "failpoints"
        self.failpoints.mkdir()

    @property
    def log(self) -> Path:
        """What all processes of the tree logged, JSON lines."""
        return self.settings.state_dir / "logs" / "skipper.jsonl"

    # --- life ---

    def start(self) -> None:
        """Start it and wait until every part of it has been ready."""
        is_first = self._launcher is None
        name, _, value = self._mark.partition("=")
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SKIPPER_")}
        kept["SKIPPER_FAILPOINTS"] = str(self.failpoints)
        with (self.folder / "up.log").open("ab") as log:
            self._launcher = subprocess.Popen(
                [*_UP, "--project", str(self.folder), *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=kept | {name: value},
                start_new_session=True,
            )
        seen: set[str] = set()
        until(lambda: not self.is_running or self._has_come_up(seen), START_LIMIT_S)
        if not (self.is_running and self._has_come_up(seen)):
            raise RuntimeError(f"it did not come up; see {self.folder / 'up.log'}")
        if is_first:  # later on somebody may just have been killed
            unseen = {child["pid"] for child in self.children().values() if child["pid"]}
            unseen -= {process.pid for process in self.processes()}
            assert not unseen, f"leftovers like {unseen} would not be found"

    def stop(self) -> int | None:
        """End it as a user does; its exit code, None where it had to be killed."""
        assert self._launcher is not None
        self._launcher.send_signal(signal.SIGTERM)
        try:
            return self._launcher.wait(self.settings.run.grace_s + 15.0)
        except subprocess.TimeoutExpired:
            self.kill_launcher()
            return None

    def cut_off(self) -> None:
        """Kill every process at once, as a power cut does."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        assert self._launcher is not None
        self._launcher.wait()

    def change_code(self, number: int) -> None:
        """Save the file of functions as an editor does, with another last line."""
        file = self.folder / "functions" / "chaos.py"
        fresh = file.with_name(".chaos.py.tmp")
        text = file.read_text().partition(_LAST_LINE)[0]
        fresh.write_text(f"{text}{_LAST_LINE}{number}\n")
        fresh.replace(file)

    def kill_launcher(self) -> None:
        assert self._launcher is not None
        self._launcher.kill()
        self._launcher.wait()

    def clear(self) -> None:
        """End whatever is left, without asking."""
        if self.is_running:
            self.kill_launcher()
            until(lambda: not self.processes(), END_LIMIT_S)
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.settings.run_dir, ignore_errors=True)

    @property
    def is_running(self) -> bool:
        return self._launcher is not None and self._launcher.poll() is None

    def _has_come_up(self, seen: set[str]) -> bool:
        """Whether each child was ready at some look; ``seen`` keeps those that were."""
        children = self.children()
        seen |= {name for name, child in children.items() if child["state"] == "ready"}
        return bool(children) and children.keys() <= seen

    # --- who is who ---

    def status(self) -> dict[str, Any]:
        """What the launcher says; empty where it does not answer."""
        try:
            return client.status(self.settings) or {}
        except SkipperError:
            return {}

    def children(self) -> dict[str, dict[str, Any]]:
        """The launcher's children by name."""
        return {self.name + child["name"]: child for child in self.status().get("children", ())}

    def pids(self) -> dict[str, int]:
        """The long-lived processes by name, the launcher too."""
        found = {name: child["pid"] for name, child in self.children().items() if child.get("pid")}
        return found | ({"launcher": self._launcher.pid} if self._launcher is not None else {})

    def targets(self, role: str) -> list[tuple[str, int]]:
        """The processes that fill ``role`` now: the launcher's child they belong to, and pid."""
        children = self.children()
        if role not in ("instance", "template"):
            return _named(children, self.name, _CHILDREN[role])
        return [
            (name, pid)
            for name, host in _named(children, self.name, _HOSTS)
            for pid in _below(host)
            if _is_template(pid, host) is (role == "template")
        ]

    def processes(self) -> list[psutil.Process]:
        """Every living process that came out of it."""
        wanted = self._mark.encode()
        folder = str(self.settings.run_dir).encode()  # the embedded broker's command names it
        return [
            process
            for process in psutil.process_iter()
            if _says(process, wanted, folder) and process.pid != os.getpid()
        ]


def parent_of(pid: int) -> int:
    """The parent process; 0 where there is no such process any more."""
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return 0


def _named(
    children: Mapping[str, Mapping[str, Any]], prefix: str, names: Iterable[str]
) -> list[tuple[str, int]]:
    pids = [(prefix + name, children.get(prefix + name, {}).get("pid")) for name in names]
    return [(name, pid) for name, pid in pids if pid]


def _below(host: int) -> list[int]:
    """The children of a host: its templates and its instances, those that start included."""
    try:
        return [child.pid for child in psutil.Process(host).children()]
    except psutil.Error:
        return []


def _is_template(pid: int, host: int) -> bool | None:
    """Whether a host's child is a template: it prints where its host does, instances do not."""
    try:
        return Path(f"/proc/{pid}/fd/1").readlink() == Path(f"/proc/{host}/fd/1").readlink()
    except OSError:
        return None


def _says(process: psutil.Process, mark: bytes, folder: bytes) -> bool:
    """Whether a living process has ``mark`` in its environment or ``folder`` in its command."""
    try:
        proc = Path(f"/proc/{process.pid}")
        is_ours = (
            mark in (proc / "environ").read_bytes() or folder in (proc / "cmdline").read_bytes()
        )
        return is_ours and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def until(condition: Callable[[], object], limit_s: float) -> bool:
    """Whether ``condition`` came true in time. Other processes have no event to wait on."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_STEP_S)
    return True
