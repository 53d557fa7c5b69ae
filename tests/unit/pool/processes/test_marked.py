import pytest

from skipper.pool.processes.marked import LineReader, MarkedLine
from skipper.wire.lines import Cause, LoggedRecord, cause_line, mark_of, record_lines

MARK = mark_of("00ff")
MINE, OTHERS = Cause("task-1", "req-1"), Cause("", "req-2")
RECORD = LoggedRecord("warning", "prices", "careful")


def lines_of(*said: bytes) -> list[bytes]:
    return b"".join(said).split(b"\n")[:-1]


def test_text_is_due_to_whom_the_instance_has_named_last() -> None:
    said = lines_of(b"a\n", cause_line(MARK, MINE), b"b\nc\n", cause_line(MARK, Cause()), b"d\r\n")
    assert LineReader(MARK).read(said) == [
        MarkedLine("a"),
        MarkedLine("b", cause=MINE),
        MarkedLine("c", cause=MINE),
        MarkedLine("d"),
    ]


def test_a_line_that_somebody_elses_interrupts_ends_there() -> None:
    said = lines_of(b"half", cause_line(MARK, OTHERS), b"whole\n")
    assert LineReader(MARK).read(said) == [MarkedLine("half"), MarkedLine("whole", cause=OTHERS)]


def test_a_record_is_one_line_with_the_cause_that_it_names() -> None:
    long = RECORD._replace(message="x" * 20_000)
    said = lines_of(record_lines(MARK, RECORD, MINE), record_lines(MARK, long, Cause()))
    assert LineReader(MARK).read(said) == [
        MarkedLine("careful", RECORD, MINE),
        MarkedLine(long.message, long),
    ]


@pytest.mark.parametrize(
    "forged",
    [
        b'\x1e@["task-2", "req-2"]',
        mark_of("00fe") + b'@["task-2", "req-2"]',
        b'\x1e=[["error","root","forged","",""],["",""]]',
    ],
)
def test_nobody_who_does_not_know_the_mark_says_anything_but_text(forged: bytes) -> None:
    (line,) = LineReader(MARK).read([forged])
    assert line.text == forged.decode()
    assert (line.record, line.cause) == (None, None)


def test_after_a_gap_nothing_is_taken_for_somebody_elses() -> None:
    reader = LineReader(MARK)
    reader.read(lines_of(cause_line(MARK, MINE), b"a\n"))
    assert reader.read([b"b"], left_out=3) == [MarkedLine("b")]


@pytest.mark.parametrize("data", [b"=[", b"=[1, 2]", b"=[[[], 1, 2, 3, 4], []]", b"@1", b"@[", b""])
def test_what_was_cut_off_is_no_line_and_spoils_no_other(data: bytes) -> None:
    reader = LineReader(MARK)
    assert reader.read([MARK + data]) == []
    assert reader.read(lines_of(record_lines(MARK, RECORD, MINE))) == [
        MarkedLine("careful", RECORD, MINE)
    ]
