"""What a call changes around it is not there for the next one."""

import locale
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skipper.instance.surroundings import Surroundings


def _mask() -> int:
    os.umask(mask := os.umask(0o022))
    return mask


def look() -> dict[str, Any]:
    return {
        "folder": Path.cwd(),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "locale": locale.setlocale(locale.LC_ALL),
        "mask": _mask(),
    }


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEPT", "before")
    before, mask = locale.setlocale(locale.LC_ALL), _mask()
    with warnings.catch_warnings():
        yield
    locale.setlocale(locale.LC_ALL, before)
    os.umask(mask)


def _change_folder() -> None:
    os.chdir("/")


def _add_variable() -> None:
    os.environ["ADDED"] = "1"


def _change_variable() -> None:
    os.environ["KEPT"] = "after"


def _remove_variable() -> None:
    del os.environ["KEPT"]


def _ignore_warnings() -> None:
    warnings.simplefilter("ignore")


def _forget_warnings() -> None:
    warnings.resetwarnings()


def _change_locale() -> None:
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")


def _change_mask() -> None:
    os.umask(0o077)


USUAL = [
    _change_folder,
    _add_variable,
    _change_variable,
    _remove_variable,
    _ignore_warnings,
    _forget_warnings,
]
CLOSELY = [_change_locale, _change_mask]


@pytest.mark.parametrize("change", [*USUAL, *CLOSELY])
def test_what_a_task_changes_is_put_back(change: Callable[[], None]) -> None:
    before, surroundings = look(), Surroundings()
    for _ in range(2):
        change()
        assert look() != before
        surroundings.put_back(looks_closely=True)
        assert look() == before


@pytest.mark.parametrize("change", USUAL)
def test_what_a_direct_call_changes_is_put_back(change: Callable[[], None]) -> None:
    before, surroundings = look(), Surroundings()
    change()
    surroundings.put_back()
    assert look() == before


@pytest.mark.parametrize("change", [*USUAL, *CLOSELY])
def test_a_change_is_told_once_in_development(
    change: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    surroundings = Surroundings(is_told=True)
    for _ in range(3):
        change()
        surroundings.put_back()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "a call has changed" in told[0]


def test_nothing_is_told_where_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    Surroundings(is_told=True).put_back()
    assert capsys.readouterr().err == ""


def test_what_a_library_sets_up_when_it_is_first_imported_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, surroundings = look(), Surroundings()
    monkeypatch.setitem(sys.modules, "newly_imported", types.ModuleType("newly_imported"))
    os.environ["ADDED"] = "1"
    os.chdir("/")
    surroundings.put_back()
    assert os.environ["ADDED"] == "1"
    assert look()["folder"] == before["folder"]
    del os.environ["ADDED"]
    surroundings.put_back()
    assert os.environ["ADDED"] == "1", "it belongs to what is there from now on"
    del os.environ["ADDED"]


def test_how_many_threads_to_compute_on_follows_the_machine() -> None:
    surroundings = Surroundings()
    os.environ["OMP_NUM_THREADS"], before = "7", os.environ.get("OMP_NUM_THREADS")
    surroundings.put_back(looks_closely=True)
    assert os.environ.pop("OMP_NUM_THREADS") == "7"
    if before is not None:
        os.environ["OMP_NUM_THREADS"] = before


def test_a_folder_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    surroundings = Surroundings()
    os.chdir(folder)
    folder.rmdir()
    surroundings.put_back()
    assert Path.cwd() == tmp_path
