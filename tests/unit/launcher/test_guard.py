"""How the guard knows what belongs to a tree."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from skipper.launcher import guard
from skipper.launcher.guard import Process, descendants, kill_tree, members

TREE = uuid.uuid4().hex
pytestmark = pytest.mark.skipif(not guard.snapshot(), reason="needs /proc")


@contextmanager
def process(code: str, environment: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes a line when it is under way."""
    command = [sys.executable, "-I", "-S", "-c", code]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as popen:
        assert popen.stdout
        popen.stdout.readline()
        yield popen
        popen.kill()


SLEEP = "import time; print(1, flush=True); time.sleep(1000)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
MARKED = {"SKIPPER_TREE": TREE}


def started(pid: int) -> int:
    seen = guard.process_of(pid)
    assert seen
    return seen.started


def test_descendants_are_found_through_all_generations() -> None:
    family = [Process(pid, parent, 0, 0, False) for pid, parent in [(2, 1), (3, 2), (4, 3), (5, 1)]]
    assert descendants(family, {2}) == {3, 4}


def test_a_mark_and_a_known_pid_make_a_member() -> None:
    with process(SLEEP, MARKED) as marked, process(SLEEP) as known, process(SLEEP) as stranger:
        found = members(TREE, {known.pid: started(known.pid)})
        assert found == {marked.pid, known.pid}
        assert stranger.poll() is None


def test_a_pid_that_was_given_to_another_is_no_member() -> None:
    with process(SLEEP) as other:
        assert members(TREE, {other.pid: started(other.pid) - 1}) == set()


def test_a_mark_must_match_whole() -> None:
    with process(SLEEP, {"SKIPPER_TREE": TREE + "0"}), process(SLEEP, {"X_SKIPPER_TREE": TREE}):
        assert members(TREE, {}) == set()


def test_all_members_are_ended_the_deaf_too_and_the_spared_not() -> None:
    with (
        process(SLEEP, MARKED) as polite,
        process(DEAF, MARKED) as deaf,
        process(SLEEP, MARKED) as spared,
    ):
        left = kill_tree(TREE, {}, patience_s=0.2, spare={spared.pid, os.getpid()})
        assert left == set()
        assert (polite.wait(5), deaf.wait(5)) == (-15, -9)
        assert spared.poll() is None


def test_what_could_not_be_ended_is_told() -> None:
    with process(DEAF, MARKED) as deaf:
        assert kill_tree(TREE, {}, patience_s=60, limit_s=0.2) == {deaf.pid}
