"""An instance computes on as many threads as its host says, also while its function runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import pytest
from threadpoolctl import threadpool_info

import skipper
from skipper.instance.calls import ServedFunction
from skipper.instance.plugins import Plugins
from skipper.instance.threads import ThreadShare
from skipper.machine import here
from skipper.settings.environment import adopt_environment, thread_limits
from skipper.wire import frames
from skipper.wire.frames import Frame, FrameKind
from tests.unit.instance.serving import Serving, call, parse

PLUGIN = """
import skipper

@skipper.hook
def skipper_threads_changed(threads):
    if threads == 13:
        raise RuntimeError("no luck")
    return 2
"""
LIMIT_S = 10.0
SET = ("tensorflow",)
"""Plugins of libraries whose threads other tests may have made in this process."""
CORES = here().cores
"""Joblib counts no more than there are, whatever it is told."""


def told(threads: int) -> tuple[int, int, bytes]:
    return FrameKind.THREADS, 0, b"%d" % threads


def answered(found: list[Frame]) -> list[bytes]:
    return [frame.payload for frame in found if frame.kind == FrameKind.THREADS]


def libraries() -> dict[str, int]:
    """On how many threads they compute: the native ones, and what joblib takes for the cores."""
    native = {str(pool["user_api"]): int(pool["num_threads"]) for pool in threadpool_info()}
    return native | {"joblib": joblib.cpu_count()}


@skipper.training
def look() -> dict[str, Any]:
    return libraries() | {"OMP": os.environ["OMP_NUM_THREADS"]}


@skipper.training
async def look_beside() -> dict[str, Any]:
    return libraries() | {"OMP": os.environ["OMP_NUM_THREADS"]}


@skipper.training
def wait_for_three() -> dict[str, Any]:
    """Compute until there are three threads to do so."""
    print("began", flush=True)
    os.kill(os.getpid(), signal.SIGURG)
    ends = time.monotonic() + LIMIT_S
    while os.environ["OMP_NUM_THREADS"] != "3" and time.monotonic() < ends:
        pass
    return look()


class SharedServing(Serving):
    """An instance that its host may tell of threads."""

    def __init__(self, folder: Path, plugins: Plugins) -> None:
        super().__init__(folder, plugins)
        self._plugins = plugins

    def calls(self, function: Any) -> ServedFunction:
        served = super().calls(function)
        served.threads = ThreadShare(self.link, self._plugins, 1)
        return served


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads, variables and the signal's handler are put back."""
    from threadpoolctl import threadpool_limits

    for name in thread_limits(1):
        monkeypatch.setenv(name, "1")
    before = signal.getsignal(signal.SIGURG)
    with threadpool_limits(1):
        yield
    signal.signal(signal.SIGURG, before)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedServing]:
    made = SharedServing(tmp_path, Plugins(tmp_path, without=SET))
    yield made
    made.close()


@pytest.mark.parametrize("function", [look, look_beside])
def test_every_library_agrees_with_what_the_host_says_before_a_call(
    shared: SharedServing, function: Any
) -> None:
    found = shared.run(function, told(2), call(id_=1), until=2)
    value = parse(found[-1]).value
    assert (value["blas"], value["joblib"], value["OMP"]) == (2, min(2, CORES), "2")
    assert value.get("openmp", 2) == 2
    assert answered(found) == [b"2"]


def test_a_plain_function_that_runs_follows(shared: SharedServing) -> None:
    found = shared.run(wait_for_three, call(id_=1), told(3), until=2)
    value = parse(found[-1]).value
    assert (value["blas"], value["joblib"], value["OMP"]) == (3, min(3, CORES), "3")
    assert answered(found) == [b"3"]


def test_a_signal_that_brings_nothing_new_is_answered_with_what_holds(
    shared: SharedServing,
) -> None:
    @skipper.training
    def poked() -> int:
        os.kill(os.getpid(), signal.SIGURG)
        return 1

    found = shared.run(poked, told(2), call(id_=1), until=3)
    assert answered(found) == [b"2", b"2"]


def test_pytorch_follows_where_it_has_been_imported(
    shared: SharedServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch: Any = ModuleType("torch")
    given: list[int] = []
    torch.set_num_threads = given.append
    monkeypatch.setitem(sys.modules, "torch", torch)
    shared.run(look, told(2), told(4), call(id_=1), until=3)
    assert given == [2, 4]


def test_half_of_a_library_is_left_alone(
    shared: SharedServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    assert answered(shared.run(look, told(2), call(id_=1), until=2)) == [b"2"]


def test_a_plugin_says_what_it_cannot_change_and_one_that_raises_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stubborn.py").write_text(PLUGIN)
    served = SharedServing(tmp_path, Plugins(tmp_path, without=SET))
    try:
        found = served.run(look, told(4), told(1), told(13), call(id_=1), until=4)
    finally:
        served.close()
        del sys.modules["stubborn"]
    assert answered(found) == [b"2", b"1", b"13"]
    assert "skipper_threads_changed: RuntimeError: no luck" in capfd.readouterr().err


def test_what_somebody_has_set_otherwise_is_left_so(
    shared: SharedServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt_environment(thread_limits(1))
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    shared.run(look, told(2), call(id_=1), until=2)
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("2", "7")


def test_calls_that_lie_ready_behind_a_long_one_go_back_at_a_signal(
    shared: SharedServing,
) -> None:
    """The signal that tells of threads has the link read what its host asks back, too."""
    ran, asked, free = [], threading.Event(), threading.Event()

    @skipper.data
    def hold(x: int, *, run: skipper.Run) -> int:
        ran.append(x)
        if x == 1:
            run.log("it takes long")
            assert asked.wait(LIMIT_S)
            os.kill(os.getpid(), signal.SIGURG)
            assert free.wait(LIMIT_S)
        return x

    def react(frame: Frame) -> bytes:
        if frame.kind == FrameKind.EVENT:
            for id_ in (3, 2, 1):
                shared.theirs.sendall(frames.pack(FrameKind.RECALL, id_))
            asked.set()
        elif (frame.kind, frame.id) == (FrameKind.RECALL, 2):
            free.set()
        return b""

    sent = [call({"x": n}, n) for n in (1, 2, 3, 4)]
    found = shared.run(hold, *sent, until=6, react=react)
    back = [frame for frame in found if frame.kind == FrameKind.RECALL]
    assert [frame.id for frame in back] == [3, 2]
    assert all(frame.payload for frame in back)
    assert [parse(frame).value for frame in found if frame.kind == FrameKind.REPLY] == [1, 4]
    assert ran == [1, 4]
