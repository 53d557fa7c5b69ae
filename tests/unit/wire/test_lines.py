import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.wire.lines import (
    MOST,
    Cause,
    LoggedRecord,
    cause_line,
    level_name,
    mark_of,
    parse_cause,
    parse_record,
    record_lines,
    shortened,
)

MARK = mark_of("00ff")


def said(lines: bytes) -> bytes:
    """What the parts of a record are together."""
    parts = [line.removeprefix(MARK) for line in lines.split(b"\n")[:-1]]
    assert {part[:1] for part in parts[:-1]} <= {b"+"}
    assert parts[-1][:1] == b"="
    return b"".join(part[1:] for part in parts)


@given(st.text(max_size=50), st.text(max_size=20_000), st.text(max_size=300))
def test_a_record_arrives_as_it_was_said(logger: str, message: str, request: str) -> None:
    record = LoggedRecord("error", logger, message, "Traceback", "")
    lines = record_lines(MARK, record, Cause("task", request))
    assert parse_record(said(lines)) == (record, Cause("task", request))
    assert max(map(len, lines.split(b"\n"))) < 16 << 10


def test_of_a_message_that_is_too_long_the_middle_is_left_out() -> None:
    text = shortened("a" * MOST + "b" * MOST)
    assert text.startswith("aaa")
    assert text.endswith("bbb")
    assert f"{MOST} characters are left out" in text


def test_a_cause_arrives_as_it_was_said() -> None:
    line = cause_line(MARK, Cause("t", "a\nb"))
    assert line.count(b"\n") == 1
    assert parse_cause(line.removeprefix(MARK + b"@")) == Cause("t", "a\nb")


@pytest.mark.parametrize("data", [b"", b"[]", b"[1]", b"{", b'[["loud","","","",""],["",""]]'])
def test_what_is_no_record_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever part of it is wrong
        parse_record(data)


@pytest.mark.parametrize(
    ("number", "name"),
    [(5, "debug"), (10, "debug"), (25, "info"), (30, "warning"), (45, "error"), (99, "critical")],
)
def test_levels_of_ones_own_count_as_the_one_below(number: int, name: str) -> None:
    assert level_name(number) == name
