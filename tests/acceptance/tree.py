"""One ``skipper up``, as a test starts it, asks it over HTTP, and ends it.

Every process of a tree inherits a mark of its own in its environment (:data:`MARK`, beside the
runtime's ``SKIPPER_TREE``), so that what a tree leaves behind is found wherever it went.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from skipper.launcher import client as launcher_client
from skipper.settings.loading import load
from skipper.settings.model import Settings
from skipper.tls import pinned

T = TypeVar("T")

living: list[Tree] = []
"""Trees whose output is shown when a test fails."""
MARK = "ACCEPTANCE_TREE"
LIMIT_S = 60.0
"""How long anything may take on a machine that is busy with other work."""
GONE_S = 10.0
"""After the launcher's end nothing of its tree may live longer."""
UP = (sys.executable, "-m", "skipper", "up")
CPU_ALONE = ("--only", "broker,gateway,scheduler,pool:cpu")
"""Flags of a tree without the gpu pool, which starts sooner."""

Json = dict[str, Any]


def until(find: Callable[[], T], limit_s: float = LIMIT_S, what: str = "") -> T:
    """What ``find`` returns once it is true. Other processes have no event to wait on."""
    end = time.monotonic() + limit_s
    while not (found := find()):
        assert time.monotonic() < end, f"{what or find} did not come true within {limit_s:g} s"
        time.sleep(0.02)
    return found


class Tree:
    """One project's tree. ``flags`` go to ``skipper up``, ``environment`` beside this process's."""

    def __init__(self, folder: Path, *flags: str, **environment: str) -> None:
        self.folder = folder
        self._flags = flags if "--port" in flags else ("--port", "0", *flags)
        self._environment = environment
        self.mark = secrets.token_hex(8)
        self._file = folder / "output"
        self._launcher: subprocess.Popen[bytes] | None = None
        self._broker: tuple[int, str] | None = None
        self._client: httpx.Client | None = None
        self.key = ""

    # --- life ---

    def start(self) -> Self:
        """Start it, and wait until its REST interface answers."""
        self.launch()
        self.wait_for_answers()
        return self

    def ready(self) -> Self:
        """Start it, and wait until everything in it is ready."""
        self.launch()
        self.wait_for_answers()
        until(lambda: self._watch(self.is_ready()), what="readiness")
        self._note_broker()
        return self

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it, and wait for nothing."""
        with self._file.open("ab") as output:
            self._launcher = subprocess.Popen(
                [*UP, "--project", str(self.folder), *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment(),
                start_new_session=True,
            )
        return self._launcher

    def environment(self) -> dict[str, str]:
        """What its processes inherit: none of this process's own settings, and the mark."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("SKIPPER_")}
        return kept | {MARK: self.mark} | self._environment

    def wait_for_answers(self) -> None:
        """Wait until ``/livez`` answers."""
        url = until(lambda: self._watch((self.status() or {}).get("url")), what="the launcher")
        self.connect(str(url))
        until(lambda: self._watch(self.is_alive()), what="the gateway's first answer")
        self._note_broker()

    def connect(self, url: str) -> None:
        """Ask the gateway at ``url`` from now on."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        if self._client is not None:
            self._client.close()
        transport = None
        if url.startswith("unix://"):
            url, transport = "http://localhost", httpx.HTTPTransport(uds=url[len("unix://") :])
        pair = self.settings.tls_files
        self._client = httpx.Client(
            base_url=url,
            timeout=LIMIT_S,
            headers=headers,
            transport=transport,
            verify=pinned(pair[0]) if pair else True,
        )

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send the launcher a signal, as Ctrl-C does; its exit code."""
        assert self._launcher is not None
        self._note_broker()
        self._launcher.send_signal(number)
        return self._launcher.wait(LIMIT_S)

    def end(self) -> None:
        """Stop it and see that nothing is left."""
        code = self.stop()
        assert code == 130, f"exit code {code}\n{self.output}"
        self.assert_gone()

    def assert_gone(self) -> None:
        """Nothing of the tree is left within :data:`GONE_S`."""
        until(
            lambda: not self.processes(), GONE_S, f"{self.processes()} are still there; their end"
        )

    def close(self) -> None:
        """End whatever a failed test has left."""
        if self._client is not None:
            self._client.close()
        if self._launcher is not None and self._launcher.poll() is None:
            self._launcher.kill()
            self._launcher.wait(LIMIT_S)
        with contextlib.suppress(AssertionError):
            self.assert_gone()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # --- what it consists of ---

    @property
    def settings(self) -> Settings:
        return load(self.folder)[0]

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._file.read_text("utf-8", "replace") if self._file.exists() else ""

    @property
    def pid(self) -> int:
        assert self._launcher is not None
        return self._launcher.pid

    def status(self) -> Json | None:
        return launcher_client.status(self.settings)

    def pids(self) -> dict[str, int]:
        """The launcher's children: name → process id."""
        return {child["name"]: child["pid"] for child in (self.status() or {})["children"]}

    def processes(self) -> dict[int, str]:
        """Every living process of the tree: id → command line."""
        found = {pid: _command(pid) for pid in _all_pids() if _is_marked(pid, self.mark)}
        if self._broker is not None and started_at(self._broker[0]) == self._broker[1]:
            found[self._broker[0]] = "broker"  # it overwrites its environment
        return found

    def is_alive(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.get("/livez").status_code == 200
        return False

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.get("/readyz").status_code == 200
        return False

    def _watch(self, value: T) -> T:
        """``value``, or a failure that shows the output where the launcher has ended."""
        assert self._launcher is not None
        code = self._launcher.poll()
        assert code is None, f"`skipper up` ended with {code}\n{self.output}"
        return value

    def _note_broker(self) -> None:
        pid = {c["name"]: c["pid"] for c in (self.status() or {"children": []})["children"]}
        if pid.get("broker"):
            self._broker = pid["broker"], started_at(pid["broker"])

    # --- HTTP ---

    @property
    def http(self) -> httpx.Client:
        assert self._client is not None, "the tree has not answered yet"
        return self._client

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.http.get(path, **more)

    def json(self, path: str, **more: Any) -> Any:
        """The document at ``path``."""
        response = self.get(path, **more)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.http.post(path, **more)

    def invoke(self, name: str, body: Any = None, **headers: str) -> httpx.Response:
        """Call a function; ``prefer="respond-async"`` is the header ``Prefer``."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        path = f"/v1/functions/{name}/invoke"
        if body is None:
            return self.post(path, headers=named)
        return self.post(path, json=body, headers=named)

    def value(self, name: str, body: Any = None) -> Any:
        """The value of a direct call."""
        response = self.invoke(name, body)
        assert response.status_code == 200, response.text
        return response.json()

    def submit(self, name: str, body: Any = None, **headers: str) -> str:
        """Start a task; its id."""
        response = self.invoke(name, body, **{"prefer": "respond-async"} | headers)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def task(self, task_id: str) -> Any:
        return self.json(f"/v1/tasks/{task_id}")

    def ended(self, task_id: str) -> Any:
        """The task, once it has ended."""
        return until(lambda: self._if_ended(task_id), what=f"the end of {self.task(task_id)}")

    def _if_ended(self, task_id: str) -> Any:
        task = self.json(f"/v1/tasks/{task_id}", params={"wait": 10})
        return task if task["finished_at"] else None

    def result(self, task_id: str) -> Any:
        """The value of a task that succeeds."""
        task = self.ended(task_id)
        assert task["state"] == "succeeded", task
        return self.json(f"/v1/tasks/{task_id}/result")

    def wait_for_state(self, task_id: str, state: str) -> Any:
        return until(
            lambda: self.task(task_id) if self.task(task_id)["state"] == state else None,
            what=f"{task_id} {state}",
        )

    def pool(self, name: str) -> Any:
        """What ``/v1/pools`` says of one pool."""
        return next(item for item in self.json("/v1/pools")["items"] if item["pool"] == name)

    def instances(self, function: str) -> set[int]:
        """Process ids of what serves direct calls of a function."""
        found = (each for pool in self.json("/v1/pools")["items"] for each in pool["instances"])
        named = (each for each in found if each["function"] == function)
        return {each["pid"] for each in named if each["lane"] == "direct"}

    def function(self, name: str) -> Any:
        """What ``/v1/functions`` says of one function; None where it is not there."""
        items = self.json("/v1/functions")["items"]
        return next((item for item in items if item["name"] == name), None)

    def broken(self) -> dict[str, Json]:
        """Broken files: path in the project → what is told of it."""
        return {item["file"]: item for item in self.json("/v1/functions")["broken"]}

    def wait_for_broken(self, file: str) -> Json:
        """What is told of a broken file, once it is."""
        return until(lambda: self.broken().get(file), what=f"a report of {file}") or {}

    def wait_for_functions(self) -> None:
        """Wait until every file has been read, good or broken."""
        limit_s = 4 * LIMIT_S  # some import TensorFlow
        until(lambda: not self.json("/v1/functions")["loading"], limit_s, "reading of all files")

    # --- files ---

    def save(self, path: str, text: str) -> None:
        """Write a file of the project as editors do: beside it, then in its place."""
        write(self.folder, path, text)


def write(folder: Path, path: str, text: str) -> None:
    """Write ``text`` to ``path`` below ``folder`` in one step."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.tmp")
    fresh.write_text(text, "utf-8")
    fresh.replace(file)


def project(folder: Path, toml: str = "", **functions: str) -> Path:
    """A project in ``folder`` with function files: stem → text."""
    write(folder, "skipper.toml", toml)
    for stem, text in functions.items():
        write(folder, f"functions/{stem}.py", text)
    return folder


@contextlib.contextmanager
def lent(tree: Tree) -> Iterator[Tree]:
    """``tree``, of which nothing is left afterwards, whatever the block did."""
    living.append(tree)
    try:
        yield tree
    finally:
        tree.close()
        living.remove(tree)


class Gate:
    """Holds a function until the test lets it go on: ``functions/hold.py`` in ``plain/``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"gate-{secrets.token_hex(4)}"

    @property
    def body(self) -> Json:
        return {"gate": str(self.path)}

    @property
    def entered(self) -> int:
        """How many calls have come as far as the gate."""
        return len(list(self.path.parent.glob(f"{self.path.name}.in-*")))

    def wait_for(self, calls: int = 1) -> None:
        until(lambda: self.entered >= calls, what=f"{calls} calls at the gate")

    def open(self) -> None:
        self.path.touch()


# --- processes -----------------------------------------------------------------------------------


def _all_pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _is_marked(pid: int, mark: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        return f"{MARK}={mark}".encode() in environment.split(b"\0") and started_at(pid) != ""
    except OSError:
        return False


def started_at(pid: int) -> str:
    """The start time of a living process; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200]
    except OSError:
        return "?"
