"""Sinks: nobody waits for them, and files stay within their size."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from skipper.sink import FILES, LogSink, RotatingFile, SharedFile, log_files, to_descriptor


def missing(count: int) -> bytes:
    return b"%d missing\n" % count


def test_a_sink_writes_in_order_and_all_of_it_before_it_closes() -> None:
    written: list[bytes] = []
    sink = LogSink(written.append, limit=1 << 20, dropped=missing)
    lines = [b"%d\n" % number for number in range(1000)]
    for line in lines:
        sink.put(line)
    sink.close(5)
    assert b"".join(written) == b"".join(lines)


def test_a_stuck_writer_delays_nobody_and_the_lost_lines_are_counted() -> None:
    stuck, go = threading.Event(), threading.Event()
    written: list[bytes] = []

    def write(data: bytes) -> None:
        stuck.set()
        go.wait(5)
        written.append(data)

    sink = LogSink(write, limit=10, dropped=missing)
    sink.put(b"first\n")
    stuck.wait(5)
    for _ in range(100):
        sink.put(b"more\n")
    assert not sink.close(0), "the writer is left behind, not waited for"
    go.set()
    assert sink.close(5)
    assert written == [b"first\n", b"more\nmore\n98 missing\n"]


def test_a_reader_that_left_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    sink = LogSink(to_descriptor(write_end), limit=100, dropped=missing)
    sink.put(b"line\n")
    sink.close(5)
    os.close(write_end)


def test_a_descriptor_that_somebody_made_non_blocking_is_waited_for() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    data = b"x" * 1_000_000
    writer = threading.Thread(target=to_descriptor(write_end), args=(data,))
    writer.start()
    seen = b""
    while len(seen) < len(data):
        seen += os.read(read_end, 65536)
    writer.join()
    os.close(read_end)
    os.close(write_end)
    assert seen == data


@pytest.mark.parametrize("line", [b"x" * 9 + b"\n", b"y" * 99 + b"\n"])
def test_log_files_rotate_within_their_size(tmp_path: Path, line: bytes) -> None:
    file = RotatingFile(tmp_path, total=400)
    for number in range(200):
        file.write(b"%3d" % number + line)
    file.close()
    files = log_files(tmp_path)
    assert [path.name for path in files] == [
        "skipper.jsonl.3",
        "skipper.jsonl.2",
        "skipper.jsonl.1",
        "skipper.jsonl",
    ]
    assert len(files) == FILES
    assert sum(path.stat().st_size for path in files) <= 400 + FILES * len(line)
    numbers = [int(text[:3]) for path in files for text in path.read_text().splitlines()]
    assert numbers == list(range(numbers[0], 200)), "the newest lines, in order"


def test_log_files_go_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        file = RotatingFile(tmp_path, total=400)
        file.write(b"line\n")
        file.close()
    assert [path.read_text() for path in log_files(tmp_path)] == ["line\nline\n"]
    assert (tmp_path / "skipper.jsonl").stat().st_mode & 0o777 == 0o600


def test_several_writers_share_a_file_and_its_rotation(tmp_path: Path) -> None:
    """As gateways do: no line is torn or lost, and none of them writes into a predecessor."""
    line = b"%s %05d " + b"x" * 88 + b"\n"
    ready = threading.Barrier(4)

    def write(name: bytes) -> None:
        file = SharedFile(tmp_path, 4 * 300 * 100, "shared.jsonl")
        ready.wait(10)
        for number in range(100):
            file.write(line % (name, 2 * number) + line % (name, 2 * number + 1))
        file.close()

    writers = [threading.Thread(target=write, args=(b"%d" % n,)) for n in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    files = log_files(tmp_path, "shared.jsonl")
    lines = b"".join(file.read_bytes() for file in files).splitlines(keepends=True)
    assert len(lines) == 800
    assert len(files) == 3
    assert all(file.stat().st_size <= 300 * 100 for file in files)
    for n in range(4):
        mine = [found for found in lines if found.startswith(b"%d " % n)]
        assert mine == [line % (b"%d" % n, number) for number in range(200)]
