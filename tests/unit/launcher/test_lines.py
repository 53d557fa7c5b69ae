"""Lines of log: cutting, reading, writing."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipper.launcher.lines import (
    MAX_LINE,
    LineSplitter,
    LogFormatter,
    as_json,
    neutral,
    parse,
    rank,
)

NOON = time.mktime((2026, 11, 22, 12, 0, 0, 0, 0, -1))
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_lines_are_cut_alike_however_the_bytes_arrive(parts: list[bytes], size: int) -> None:
    stream = b"".join(parts)
    cutter, lines = LineSplitter(), []
    for start in range(0, len(stream), size):
        lines += cutter.feed(stream[start : start + size])
    expected = [line.removesuffix(b"\r") for line in stream.split(b"\n")]
    assert [*lines, cutter.rest()] == expected


def test_an_endless_line_is_cut_and_its_rest_counted() -> None:
    cutter = LineSplitter()
    for _ in range(3):
        assert cutter.feed(b"x" * MAX_LINE) == []
    [line] = cutter.feed(b"\n")
    assert line == b"x" * MAX_LINE + b" [and %d bytes more]" % (2 * MAX_LINE)
    assert cutter.feed(b"next\n") == [b"next"]


@pytest.mark.parametrize(
    ("line", "level", "message"),
    [
        (b'{"level": "error", "message": "no"}', "error", "no"),
        (b'{"message": "no level"}', "info", "no level"),
        (b'{"message": 3}', "info", '{"message": 3}'),
        (b'{"message": "cut', "info", '{"message": "cut'),
        (b"[" * 9 + b"plain", "info", "[[[[[[[[[plain"),
        (b"{" + b"[" * 100_000, "info", "{" + "[" * 100_000),
        (b"tab\tand \x1b[2J", "info", "tab\tand \\x1b[2J"),
        (b"\xff\xfe", "info", "\ufffd\ufffd"),
        (b"12:M 22 Nov 2026 09:11:06.408 * Ready", "debug", "Ready"),
        (b"12:M 22 Nov 2026 09:11:06.408 # Short read", "warning", "Short read"),
        (b"12:M 22 Nov 2026 09:11:06.408 # Enable overcommit", "debug", "Enable overcommit"),
        (b"12:signal-handler (1795338667) Received SIGTERM", "debug", "Received SIGTERM"),
    ],
)
def test_every_line_becomes_a_record(line: bytes, level: str, message: str) -> None:
    record = parse(line, "cpu", NOON)
    assert (record["level"], record["message"]) == (level, message)
    assert (record["name"], record["ts"]) == ("cpu", NOON)


def pretty(record: dict[str, Any], *, colour: bool = False) -> str:
    return LogFormatter(("cpu", "gateway"), colour=colour)({"ts": NOON, "name": "cpu"} | record)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {"level": "info", "message": "done", "function": "a.b", "ms": 8.1, "logger": "skipper"},
            "12:00:00 cpu     │ INFO  done function=a.b ms=8.1\n",
        ),
        (
            {"level": "warning", "message": "two\nlines", "note": "with space"},
            '12:00:00 cpu     │ WARN  two note="with space"\n12:00:00 cpu     │   lines\n',
        ),
        (
            {"level": "error", "message": "raised", "traceback": "Traceback\n  at a.py\n"},
            (
                "12:00:00 cpu     │ ERROR raised\n"
                "12:00:00 cpu     │   Traceback\n"
                "12:00:00 cpu     │     at a.py\n"
            ),
        ),
        ({"message": "x", "level": 7, "ts": "?"}, "--:--:-- cpu     │ INFO  x\n"),
        ({"message": "x", "ts": 1e300}, "--:--:-- cpu     │ INFO  x\n"),
        ({"message": "x", "name": "a-long-name"}, "12:00:00 a-long-name │ INFO  x\n"),
        (
            {"message": "\x1b[31m\u202e", "key": "\x9b"},
            "12:00:00 cpu     │ INFO  \\x1b[31m\\u202e key=\\x9b\n",
        ),
    ],
)
def test_a_record_for_people(record: dict[str, Any], expected: str) -> None:
    assert pretty(record) == expected


def test_a_component_keeps_its_colour() -> None:
    def colour(name: str) -> str:
        found = re.search(
            r"\x1b\[(\d+)m[\w-]+ +│", pretty({"message": "", "name": name}, colour=True)
        )
        assert found
        return found[1]

    assert colour("cpu") != colour("gateway")
    assert colour("reload") == colour("reload")


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), JSON), st.text())
def test_no_record_can_drive_a_terminal(fields: dict[str, Any], message: str) -> None:
    record = {"ts": NOON, "level": "info", "name": "cpu"} | fields | {"message": message}
    assert not CONTROLS.search(pretty(record).replace("\t", ""))
    line = as_json(record)
    assert line.endswith(b"\n")
    assert not CONTROLS.search(line[:-1].decode())
    assert b"\n" not in line[:-1]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_keeps_the_text(text: str) -> None:
    assert json.loads(as_json({"message": text})) == {"message": text}


def test_a_lone_surrogate_does_not_break_a_line() -> None:
    assert json.loads(as_json({"message": "\ud800"})) == {"message": "\ud800"}


def test_harmless_text_is_left_alone() -> None:
    assert neutral("Žąsis │ ✗ 🐍\t") == "Žąsis │ ✗ 🐍\t"


def test_levels_have_an_order() -> None:
    levels = ["debug", "info", "warning", "error", "critical"]
    ranks = [rank({"level": level}) for level in levels]
    assert ranks == sorted(ranks)
    assert rank({"level": None}) == rank({"level": "info"})
