"""What a process says on its standard streams once they are taken; each in a process of its own."""

import subprocess
import sys
from textwrap import dedent

import pytest

from skipper.pool.processes.marked import LineReader, MarkedLine
from skipper.wire.lines import Cause, mark_of

BEGIN = """
import logging, sys
from skipper.instance import caller, output
output.take("00ff", "info")
log = logging.getLogger("mine")
def of(request, task=""):
    caller.current.set(caller.CallContext(0, request, task))
"""


def said(program: str) -> tuple[list[MarkedLine], list[MarkedLine]]:
    """What a program says on its standard output and on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + dedent(program)], capture_output=True, check=True, timeout=30
    )
    first, second = (
        LineReader(mark_of("00ff")).read(stream.splitlines())
        for stream in (done.stdout, done.stderr)
    )
    return first, second


def test_prints_and_records_are_due_to_the_call_that_makes_them() -> None:
    printed, logged = said(
        """
        of("r1", "t1"); print("one"); log.info("two")
        output.end_call()
        import os; os.write(1, b"nobody's\\n")
        of("r2"); print("three"); log.info("four")
        """
    )
    assert printed == [
        MarkedLine("one", cause=Cause("t1", "r1")),
        MarkedLine("nobody's"),
        MarkedLine("three", cause=Cause("", "r2")),
    ]
    assert [(line.text, line.cause) for line in logged] == [
        ("two", Cause("t1", "r1")),
        ("four", Cause("", "r2")),
    ]


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("", [("info", "b"), ("error", "c")]),
        ("logging.basicConfig()", [("info", "INFO:mine:b"), ("error", "ERROR:mine:c")]),
        (
            "logging.basicConfig(level='DEBUG', format='%(message)s!')",
            [("debug", "a!"), ("info", "b!"), ("error", "c!")],
        ),
        ("log.addHandler(logging.StreamHandler())", [("info", "b"), ("error", "c")]),
        ("log.addHandler(logging.StreamHandler(sys.__stderr__))", [("info", "b"), ("error", "c")]),
        ("log.addHandler(logging.NullHandler())", []),
        ("log.setLevel('ERROR')", [("error", "c")]),
        ("logging.disable(logging.INFO)", [("error", "c")]),
    ],
)
def test_a_configuration_of_the_functions_own_holds(
    configured: str, expected: list[tuple[str, str]]
) -> None:
    _, logged = said(f"{configured}\nlog.debug('a'); log.info('b'); log.error('c')")
    assert [(line.record and line.record.level, line.text) for line in logged] == expected
    assert {line.record and line.record.logger for line in logged} <= {"mine"}


def test_a_stream_of_the_functions_own_gets_what_it_would_without_a_host() -> None:
    printed, logged = said(
        """
        import contextlib, io
        with contextlib.redirect_stderr(io.StringIO()) as kept:
            log.warning("kept")
        print(repr(kept.getvalue()))
        """
    )
    assert [line.text for line in printed] == [repr("kept\n")]
    assert logged == []


def test_tracebacks_are_told_once_and_a_bad_format_fails_nobody() -> None:
    _, logged = said(
        """
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("no")
        log.error("%d", "text")
        log.error("after")
        """
    )
    first, *_, last = logged
    assert first.record is not None
    assert first.record.traceback.endswith("ZeroDivisionError: division by zero")
    assert first.text == f"no\n{first.record.traceback}"
    assert last.text == "after"
    assert any("not all arguments" in line.text or "TypeError" in line.text for line in logged)
