import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.pace import Pace
from skipper.pool.processes.marked import MarkedLine
from skipper.pool.processes.output import (
    LINE_LIMIT,
    LINES,
    OVERHEAD,
    SHOW_S,
    Backlog,
    Echo,
    OutputStream,
    Printed,
)
from skipper.pool.processes.plain_text import plain
from skipper.wire.lines import mark_of

MOST_LINES = LINES.tail // OVERHEAD
LIMIT_S = 30.0
MARK = mark_of("0123")


# --- lines out of bytes ---


def shown(lines: list[bytes]) -> list[str]:
    """What of lines is to be seen."""
    return [plain(line.decode("latin-1")) for line in lines]


@given(st.lists(st.binary(max_size=30)))
def test_lines_do_not_depend_on_how_the_bytes_come(chunks: list[bytes]) -> None:
    backlog, lines = Backlog(), []
    for chunk in chunks:
        backlog.feed(chunk)
        lines += backlog.take(10**9)
        assert not backlog.has_line
    lines += filter(lambda line: shown([line]) != [""], backlog.rest())
    *ended, begun = b"".join(chunks).split(b"\n")
    assert shown(lines) == shown(ended + ([begun] if shown([begun]) != [""] else []))
    assert backlog.left_out == 0


def test_a_budget_lets_some_lines_through_and_the_others_wait() -> None:
    backlog = Backlog()
    backlog.feed(b"1\n2\n3\n4\nrest")
    assert backlog.take(0) == []
    assert backlog.take(2 * (OVERHEAD + 1)) == [b"1", b"2"]
    assert backlog.has_line
    assert backlog.take(10**9) == [b"3", b"4"]
    assert backlog.rest() == [b"rest"]


def test_a_line_that_is_too_long_becomes_several_and_no_character_is_broken() -> None:
    backlog, text = Backlog(), "aé€😀" * 5000
    backlog.feed(text.encode())
    lines = [line.decode() for line in backlog.take(10**9) + backlog.rest()]
    assert "".join(lines) == text
    assert all(len(line.encode()) <= LINE_LIMIT for line in lines)
    assert len(lines) == len(text.encode()) // LINE_LIMIT + 1


def test_of_too_many_lines_the_last_stay_and_the_others_are_counted() -> None:
    backlog = Backlog()
    for number in range(100_000):
        backlog.feed(b"%d\n" % number)
    backlog.feed(b"end")
    lines = backlog.rest()
    assert len(lines) == MOST_LINES + 1
    assert lines[-2:] == [b"99999", b"end"]
    assert lines == [b"%d" % (100_000 - n) for n in range(MOST_LINES, 0, -1)] + [b"end"]
    assert backlog.left_out == 100_000 - MOST_LINES


def test_of_too_many_bytes_the_last_whole_lines_stay() -> None:
    backlog = Backlog()
    for number in range(5000):
        backlog.feed(b"%d" % number + b"x" * 1000 + b"\n")
    lines = backlog.rest()
    assert LINES.tail - 1100 < sum(map(len, lines)) + len(lines) <= LINES.tail
    first = 5000 - len(lines)
    assert lines[0].startswith(b"%dx" % first)
    assert backlog.left_out == first


def test_a_flood_without_lines_is_held_in_bounded_memory() -> None:
    backlog, chunk = Backlog(), b"x" * (64 << 10)
    for _ in range(1600):  # 100 MiB
        backlog.feed(chunk)
        assert len(backlog._data) <= 2 * LINES.tail + len(chunk)
    lines = backlog.rest()
    assert sum(map(len, lines)) <= LINES.tail
    assert backlog.left_out + len(lines) == pytest.approx(1600 * len(chunk) / LINE_LIMIT, rel=0.01)


# --- a stream ---


class Heard:
    """What an output tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.present: list[str] = []
        self.left_out = 0
        self.gaps: list[int] = []

    def __call__(self, printed: Printed) -> None:
        if printed.left_out:
            self.gaps.append(len(self.lines))
        self.present += [line.text for line in printed.lines if line.is_unfinished]
        self.lines += [line.text for line in printed.lines if not line.is_unfinished]
        self.left_out += printed.left_out


@asynccontextmanager
async def stream(show_s: float = SHOW_S) -> AsyncIterator[tuple[int, OutputStream, Heard]]:
    reading, writing = os.pipe()
    heard = Heard()
    output = OutputStream("stdout", reading, heard, MARK, show_s)
    try:
        yield writing, output, heard
    finally:
        output.close()
        os.close(writing)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - what a pipe brings sets no event
            await asyncio.sleep(0.01)


async def test_lines_are_told_as_they_come() -> None:
    async with stream() as (writing, _, heard):
        os.write(writing, b"one\r\ntwo\nthr")
        await until(lambda: len(heard.lines) == 2)
        os.write(writing, b"ee\n")
        await until(lambda: len(heard.lines) == 3)
        assert heard.lines == ["one", "two", "three"]


async def test_what_was_written_is_told_when_a_call_ends_without_a_line_end_too() -> None:
    async with stream() as (writing, output, heard):
        os.write(writing, b"one\ntwo")
        output.drain()
        assert heard.lines == ["one", "two"]
        output.drain()
        assert heard.lines == ["one", "two"]


# https://github.com/determined-ai/determined/issues/3945


async def test_of_a_bar_the_present_state_is_told_and_the_last_is_kept() -> None:
    async with stream(show_s=0.01) as (writing, output, heard):
        os.write(writing, b"\r  0%|    | 0/9")
        await until(lambda: heard.present)
        os.write(writing, b"\r 50%|##  | 5/9")
        await until(lambda: heard.present[1:])
        os.write(writing, b"\r100%|####| 9/9\n")
        await until(lambda: heard.lines)
        output.drain()
        assert heard.lines == ["100%|####| 9/9"]
        assert heard.present == ["  0%|    | 0/9", " 50%|##  | 5/9"]


async def test_a_bar_of_many_megabytes_is_one_line() -> None:
    async with stream() as (writing, output, heard):
        for n in range(2000):
            os.write(writing, b"\r\x1b[1m%d/2000\x1b[0m" % n + b"#" * 1000)
            output._read(1)
        output.drain()
        assert heard.lines == ["1999/2000" + "#" * 1000]
        assert heard.left_out == 0


@pytest.mark.parametrize(
    "pieces",
    [
        [b"\r10%", b"\r20%", b"\r\x1b[2K"],
        [b"10%\r", b"20%\r"],
        [b"1", b"0%\x1b[0", b"m\r2", b"0", b"%"],
        [b"10%\b\b\b20%"],
    ],
)
async def test_a_bar_without_an_end_leaves_its_last_state(pieces: list[bytes]) -> None:
    async with stream() as (writing, output, heard):
        for piece in pieces:
            os.write(writing, piece)
            output._read(1)
        output.drain()
        assert heard.lines == ["20%"]


async def test_a_line_that_has_begun_is_told_without_a_bar_too_and_once() -> None:
    async with stream(show_s=0.01) as (writing, _, heard):
        os.write(writing, b"...")
        await until(lambda: heard.present)
        os.write(writing, b".")
        await until(lambda: heard.present[1:])
        assert heard.present == ["...", "...."]
        assert heard.lines == []


async def test_what_nobody_will_write_any_more_is_told_at_the_end() -> None:
    reading, writing = os.pipe()
    heard = Heard()
    OutputStream("stdout", reading, heard, MARK)
    os.write(writing, b"last words")
    os.close(writing)
    await until(lambda: heard.lines)
    assert heard.lines == ["last words"]


async def test_a_flood_is_read_at_once_and_its_first_and_last_lines_are_told() -> None:
    """The writer waits for nothing: the pipe is emptied faster than lines are passed on."""
    number = 400_000
    async with stream() as (writing, output, heard):
        data = b"".join(b"line %d\n" % n for n in range(number))

        def write() -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(writing, view[: 64 << 10]) :]

        writer = threading.Thread(target=write)
        writer.start()
        await until(lambda: not writer.is_alive())
        output.drain()
        assert len(heard.lines) + heard.left_out == number
        first, last = LINES.head // (OVERHEAD + 11), MOST_LINES
        assert heard.lines[:first] == [f"line {n}" for n in range(first)]
        assert heard.lines[-last:] == [f"line {n}" for n in range(number - last, number)]
        assert min(heard.gaps) >= first


async def test_after_a_flood_lines_are_told_as_they_come_again() -> None:
    async with stream() as (writing, output, heard):
        os.set_blocking(writing, False)
        for _ in range(40):
            os.write(writing, b"x\n" * 8000)
            await asyncio.sleep(0)
        output.drain()
        told = len(heard.lines)
        os.write(writing, b"after\n")
        await until(lambda: len(heard.lines) > told)
        assert heard.lines[-1] == "after"


# --- the tree's log ---


def test_a_flood_does_not_fill_the_trees_log(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    echo = Echo(pace=Pace(3 * (OVERHEAD + 1), OVERHEAD + 1, clock=lambda: now[0]))
    with caplog.at_level(logging.INFO, "skipper.function"):
        echo.write(Printed("stdout", [*map(MarkedLine, "abcdef")]), {"function": "f.f"}, None)
        now[0] = 2.0
        echo.write(Printed("stdout", [MarkedLine("g")], 5), {"function": "f.f"}, None)
        echo.write(Printed("stdout", [*map(MarkedLine, "hijk")]), {"function": "f.f"}, None)
        for _ in range(2):
            echo.end()
    assert [record.getMessage() for record in caplog.records] == [
        *"abc",
        "… 8 lines of output are left out here",
        "g",
        "h",
        "… 3 lines of output are left out here",
    ]
    assert {vars(record)["function"] for record in caplog.records} == {"f.f"}
