"""What callers can make the gateway hold: bodies that do not end, answers that nobody reads."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.tree import CPU_ALONE, Tree, lent, project
from tests.security.conftest import Connect
from tests.security.raw import LIMIT_S, Raw

MIB = 1 << 20
SMALL_BUFFER = 4096
"""A caller's, in bytes, so that its kernel takes little of what it does not read."""
USES = ("bodies", "answers")
QUIET_S = 0.5
"""The gateway takes nothing more of a body after so long."""

FUNCTIONS = '''
"""Large values, in and out."""

from collections.abc import Iterator

import skipper


@skipper.data
def size(text: str = "") -> int:
    return len(text)


@skipper.data
def text(mib: int) -> str:
    return "x" * (mib << 20)


@skipper.data
def items(mib: int, number: int) -> Iterator[str]:
    text = "x" * (mib << 20)
    for _ in range(number):
        yield text
'''


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree whose gateway has not been asked for much yet."""
    folder = project(tmp_path_factory.mktemp("heavy"), "[pools.cpu]\nslots = 24\n", heavy=FUNCTIONS)
    with lent(Tree(folder, *CPU_ALONE)) as tree:
        yield tree.ready()
        assert "Traceback" not in tree.output
        tree.end()


def peak_mib(tree: Tree) -> int:
    """The most that the gateway has held so far, in MiB."""
    status = Path(f"/proc/{tree.pids()['gateway']}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) >> 10


def forget_peak(tree: Tree) -> None:
    Path(f"/proc/{tree.pids()['gateway']}/clear_refs").write_text("5")


def call_head(raw: Raw, function: str, length: int | None, *headers: str) -> bytes:
    """The head of a call with a body of JSON."""
    lines = [
        f"POST /v1/functions/{function}/invoke HTTP/1.1",
        f"Host: {raw.host}",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def send_call(raw: Raw, function: str, body: bytes, *headers: str) -> None:
    raw.send(call_head(raw, function, len(body), *headers) + body)


def assert_small_calls_are_answered(tree: Tree) -> None:
    for text in ("", "four", "x" * 60_000):
        assert tree.value("heavy.size", {"text": text}) == len(text)


def send_what_is_taken(callers: list[Raw], data: bytes) -> None:
    """Have all send ``data``, until the gateway takes nothing more of any for a while."""
    left = dict.fromkeys(callers, memoryview(data))
    while ready := select.select([], list(left), [], QUIET_S)[1]:
        for caller in ready:
            left[caller] = left[caller][caller.send_some(left[caller][: 1 << 18]) or MIB :]
            if not left[caller]:
                del left[caller]


def half_bodies(tree: Tree, connect: Connect, function: str, number: int) -> list[Raw]:
    """Callers who send all but the last byte of 8 MiB, as far as they can."""
    callers = [connect(tree) for _ in range(number)]
    for caller in callers:
        caller.send(call_head(caller, function, 8 * MIB))
    send_what_is_taken(callers, b'{"text": "' + b"x" * (8 * MIB - 13))
    return callers


def chunked_bodies(tree: Tree, connect: Connect, number: int) -> list[Raw]:
    """Callers who send chunks of a body, and never the last one."""
    callers = [connect(tree) for _ in range(number)]
    for caller in callers:
        caller.send(call_head(caller, "heavy.size", None))
    send_what_is_taken(callers, b"100000\r\n" + b"x" * MIB + b"\r\n" * 7)
    return callers


def until_answered(callers: list[Raw]) -> None:
    """Wait until the gateway has begun to answer each of them, or has cut it."""
    waiting = set(callers)
    while waiting:
        ready = select.select(list(waiting), [], [], LIMIT_S)[0]
        assert ready, f"{len(waiting)} callers got no answer"
        waiting -= set(ready)


def ask_for_results(tree: Tree, connect: Connect, number: int) -> list[Raw]:
    """Callers who ask for 30 MiB and read nothing, some of them for a task's result."""
    task, callers = tree.ended(tree.submit("heavy.text", {"mib": 30})), []
    for place in range(number):
        caller = connect(tree, receive_buffer=SMALL_BUFFER)
        if place % 10:
            path = f"/v1/tasks/{task['id']}/result"
            caller.send(f"GET {path} HTTP/1.1\r\nHost: {caller.host}\r\n\r\n".encode())
        else:
            send_call(caller, "heavy.text", b'{"mib": 30}')
        callers.append(caller)
    return callers


def ask_for_streams(tree: Tree, connect: Connect, number: int) -> list[Raw]:
    """Callers who ask for items of 8 MiB and read none."""
    callers = []
    for place in range(number):
        caller = connect(tree, receive_buffer=SMALL_BUFFER)
        kind = "text/event-stream" if place % 2 else "application/jsonl"
        send_call(caller, "heavy.items", b'{"mib": 8, "number": 100}', f"Accept: {kind}")
        callers.append(caller)
    return callers


def test_callers_who_neither_end_nor_read_leave_room_for_small_calls(
    heavy: Tree, connect: Connect
) -> None:
    half_bodies(heavy, connect, "heavy.size", 100)
    callers = ask_for_results(heavy, connect, 100) + ask_for_streams(heavy, connect, 20)
    assert_small_calls_are_answered(heavy)
    until_answered(callers)
    assert_small_calls_are_answered(heavy)
    assert peak_mib(heavy) < 1024


def test_bodies_for_a_function_that_does_not_exist_are_not_held(
    heavy: Tree, connect: Connect
) -> None:
    forget_peak(heavy)
    before = peak_mib(heavy)
    for caller in half_bodies(heavy, connect, "heavy.nothing", 60):
        assert caller.answer().status == 404
    assert peak_mib(heavy) < before + 50


def test_bodies_in_chunks_that_do_not_end_leave_room(heavy: Tree, connect: Connect) -> None:
    forget_peak(heavy)
    before = peak_mib(heavy)
    chunked_bodies(heavy, connect, 100)
    assert_small_calls_are_answered(heavy)
    assert peak_mib(heavy) < before + 400


def test_bodies_that_are_refused_are_not_received(heavy: Tree, connect: Connect) -> None:
    forget_peak(heavy)
    before = peak_mib(heavy)
    for header, status in (("Content-Encoding: gzip", 415), ("Prefer: wait=1", 415)):
        callers = [connect(heavy) for _ in range(30)]
        for caller in callers:
            head = call_head(caller, "heavy.size", 8 * MIB, header)
            caller.send(head.replace(b"application/json", b"text/plain"))
        send_what_is_taken(callers, b"x" * (8 * MIB - 1))
        assert [caller.answer().status for caller in callers] == [status] * 30
    assert peak_mib(heavy) < before + 50


def test_a_large_call_is_answered_while_others_neither_send_nor_read(
    heavy: Tree, connect: Connect
) -> None:
    half_bodies(heavy, connect, "heavy.size", 40)
    until_answered(ask_for_results(heavy, connect, 20))
    assert heavy.value("heavy.size", {"text": "x" * MIB}) == MIB
    gauges = metrics(heavy)
    assert gauges["skipper_gateway_cut_total"] > 0
    held = sum(gauges[f'skipper_gateway_memory_bytes{{use="{use}"}}'] for use in USES)
    assert held <= gauges["skipper_gateway_memory_limit_bytes"]


def metrics(tree: Tree) -> dict[str, float]:
    lines = tree.get("/metrics").text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if line.startswith("skipper_gateway"))
    return {name.removesuffix("{}"): float(value) for name, _, value in pairs}
