import ast
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipper import failpoints
from skipper.failpoints import POINTS, FailpointError, failpoint

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "runtime" / "skipper"
POINT = "intake.begun"
_PASS_BY = f"""\
from skipper import failpoints
failpoints.enable({{folder!r}}, "gateway")
input()
for _ in range(100):
    failpoints.failpoint({POINT!r})
"""


@pytest.fixture(autouse=True)
def off_again() -> Iterator[None]:
    yield
    failpoints.enable("", "")


def arm(folder: Path, action: str, point: str = POINT) -> None:
    (folder / point).write_text(action)


def taken(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "@" in path.name]


def passer_by(folder: Path) -> subprocess.Popen[bytes]:
    """A process that passes the point many times once it is written to."""
    code = _PASS_BY.format(folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


def placed() -> list[str]:
    """The points that the runtime's source passes, each as often as it stands there."""
    return [
        str(ast.literal_eval(node.args[0]))
        for file in RUNTIME.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint"
    ]


def test_each_listed_point_is_placed_once_and_each_placed_one_is_listed() -> None:
    assert sorted(placed()) == sorted(POINTS)
    assert len(POINTS) >= 30


def test_the_documentation_lists_them_all() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.+) \|$", text, re.MULTILINE)
    assert rows == list(POINTS.items())


def test_a_point_is_nothing_while_failpoints_are_off(tmp_path: Path) -> None:
    arm(tmp_path, "raise")
    failpoint(POINT)
    failpoints.enable("", "gateway")
    failpoint(POINT)
    assert taken(tmp_path) == []


def test_a_point_that_is_not_armed_is_passed(tmp_path: Path) -> None:
    failpoints.enable(str(tmp_path), "gateway")
    arm(tmp_path, "raise", "intake.stored")
    failpoint(POINT)
    assert taken(tmp_path) == []


def test_a_point_that_is_armed_to_raise_does_so_once(tmp_path: Path) -> None:
    failpoints.enable(str(tmp_path), "gateway")
    arm(tmp_path, "raise")
    with pytest.raises(FailpointError, match=POINT):
        failpoint(POINT)
    failpoint(POINT)


def test_a_point_that_is_armed_to_stall_holds_its_thread_up(tmp_path: Path) -> None:
    failpoints.enable(str(tmp_path), "gateway")
    arm(tmp_path, "stall 0.05")
    begun = time.monotonic()
    failpoint(POINT)
    assert time.monotonic() - begun >= 0.05


def test_one_of_many_processes_is_killed_and_is_named(tmp_path: Path) -> None:
    processes = [passer_by(tmp_path) for _ in range(4)]
    arm(tmp_path, "kill")
    for process in processes:
        process.communicate(b"\n", timeout=60)
    dead = [process for process in processes if process.returncode == -signal.SIGKILL]
    assert [process.returncode for process in processes if process not in dead] == [0, 0, 0]
    assert taken(tmp_path) == [f"{POINT}@gateway-{dead[0].pid}"]
