"""What a thread is at, as function, file and line."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipper.instance import faults
from skipper.instance.held import held_by


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(__file__).parent
    faults.at_home_in(folder)
    yield folder
    faults._home.clear()


def spin(begun: threading.Event, over: threading.Event) -> None:
    begun.set()
    over.wait()


def at(thread: threading.Thread, begun: threading.Event, over: threading.Event) -> str:
    thread.start()
    assert begun.wait(10)
    found = held_by(thread.ident or 0)
    over.set()
    thread.join()
    return found


def test_the_innermost_of_the_projects_functions_is_named(home: Path) -> None:
    begun, over = threading.Event(), threading.Event()
    found = at(threading.Thread(target=spin, args=(begun, over)), begun, over)
    name, _, line = found.rpartition(":")
    assert name == "spin, test_held.py"
    first = spin.__code__.co_firstlineno
    assert first < int(line) <= first + 2


def test_where_nothing_of_the_project_runs_the_innermost_of_all_is_named() -> None:
    begun, over = threading.Event(), threading.Event()
    found = at(threading.Thread(target=spin, args=(begun, over)), begun, over)
    assert "threading.py:" in found or "test_held.py:" in found


def test_a_thread_that_has_ended_is_at_nothing() -> None:
    assert held_by(0) == ""
