"""What the runs on other Pythons count as good, and what they say of a Python that is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tools import bootstrap, pythons

SKIP = '<testcase><skipped type="pytest.skip" message="{}"/></testcase>'
PASS, FAIL, ERROR = (
    "<testcase/>",
    "<testcase><failure/></testcase>",
    "<testcase><error/></testcase>",
)
TENSORFLOW = SKIP.format(pythons.ALLOWED_SKIP)
HERE = (sys.version_info.major, sys.version_info.minor)


def tally(*cases: str) -> pythons.Tally:
    return pythons.tally_of(ET.fromstring(f"<suite>{''.join(cases)}</suite>"))


@pytest.mark.parametrize(
    ("cases", "is_good"),
    [
        ((PASS,), True),
        ((PASS, TENSORFLOW), True),
        ((PASS, '<testcase><skipped type="pytest.xfail" message="known"/></testcase>'), True),
        ((PASS, FAIL), False),
        ((PASS, ERROR), False),
        ((PASS, SKIP.format("no numpy here")), False),
        ((TENSORFLOW,), False),
        ((), False),
    ],
)
def test_a_skip_is_good_for_want_of_tensorflow_alone(cases: tuple[str, ...], is_good: bool) -> None:
    assert tally(*cases).is_good is is_good


def test_a_skip_for_another_reason_is_named_once() -> None:
    bad = SKIP.format("no numpy here")
    assert tally(PASS, bad, bad, TENSORFLOW).unexpected == ["no numpy here"]


def test_the_reason_is_the_one_that_tests_give() -> None:
    tests = Path(pythons.ROOT, "tests", "unit")
    reasons = [
        file for file in tests.rglob("conftest.py") if pythons.ALLOWED_SKIP in file.read_text()
    ]
    assert len(reasons) >= 2


def test_a_python_that_is_not_there_is_named_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstrap, "pythons_here", lambda: iter([sys.executable]))
    assert pythons.find((3, 99)) is None
    assert pythons.run_on((3, 99), []) == ("Python 3.99: not on this machine", True)


def test_a_python_is_found_by_what_it_is_and_not_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setattr(bootstrap, "pythons_here", lambda: iter([str(shim), sys.executable]))
    found = pythons.find(HERE)
    assert found is not None
    assert found.minor == HERE


def test_an_environment_is_made_once_and_anew_when_it_is_to_hold_something_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[str] = []

    def run(*command: str | Path) -> None:
        ran.append(" ".join(map(str, command)))
        if " -m venv " in ran[-1]:
            (venv / "bin").mkdir(parents=True)
            (venv / "bin" / "python").symlink_to(sys.executable)

    venv, lock = tmp_path / ".venv-3.12", tmp_path / "lock.txt"
    lock.write_text("a==1")
    monkeypatch.setattr(pythons, "LOCK", lock)
    monkeypatch.setattr(bootstrap, "run", run)
    python = bootstrap.Python("3.12.1", "/python3.12", "True")
    pythons.make(venv, python)
    assert [" -m venv " in line for line in ran] == [True, *[False] * (len(ran) - 1)]
    assert any("--require-hashes" in line for line in ran)
    assert any("--editable" in line for line in ran)

    ran.clear()
    pythons.make(venv, python)
    assert ran == []
    lock.write_text("a==2")
    pythons.make(venv, python)
    assert ran


def test_a_run_without_a_report_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ended(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 4)

    monkeypatch.setattr(subprocess, "run", ended)
    with pytest.raises(bootstrap.SetupError, match="ended with 4"):
        pythons.run_tests(tmp_path, [])
