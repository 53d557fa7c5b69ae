"""Imports from inside Skipper that no longer work are answered with what to write instead."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import skipper
from skipper.instance import faults, moved
from skipper.instance.plugins import Plugins


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        # A module that is gone, with public names or without.
        ("from skipper.model import Model", "write `from skipper import Loaded, Model`"),
        ("from skipper.run import Run", "write `from skipper import Run`"),
        ("import skipper.contract", "has moved to skipper.function.signature, which"),
        ("from skipper.environment import thread_limits", "moved to skipper.settings.environment,"),
        ("import skipper.pool.tape", "skipper.pool.tape is not there; files and plugins are"),
        # A folder that has the name of a module.
        ("from skipper.function import Function", "write `from skipper import Function`"),
        ("from skipper.settings import Settings", "has moved to skipper.settings.model, which"),
        ("from skipper.wire import frame_of", "has moved to skipper.wire.frames, which"),
        # The same, one step later.
        ("import skipper.function\nskipper.function.data", "write `from skipper import data`"),
        ("import skipper.wire as w\nw.Frame", "has moved to skipper.wire.frames, which"),
        ("import skipper\nskipper.model.Model", "write `from skipper import Loaded, Model`"),
        ("from skipper import contract", "has moved to skipper.function.signature, which"),
        # What has nothing to do with it keeps its own remedy, or none.
        ("import no_such_package.x", "install the package that provides `no_such_package`"),
        ("np.array([])", "add `import numpy as np`"),
    ],
)
def test_a_plugin_that_imports_what_has_moved_learns_where_it_is(
    tmp_path: Path, text: str, hint: str
) -> None:
    (tmp_path / "inside.py").write_text(f"{text}\n")
    (broken,) = Plugins(tmp_path).broken
    assert hint in broken.hint


@pytest.mark.parametrize(
    "text",
    [
        "import skipper\nskipper.trainig",
        "from skipper.errors import FormatErorr",
        "import pathlib\npathlib.model",
        "class A: ...\nA().model",
        "from json import model",
    ],
)
def test_other_mistakes_are_not_taken_for_moves(tmp_path: Path, text: str) -> None:
    (tmp_path / "inside.py").write_text(f"{text}\n")
    (broken,) = Plugins(tmp_path).broken
    assert broken.hint == ""


def test_every_module_of_the_table_is_where_the_table_has_it() -> None:
    """A move makes this fail: write the module's newest place into `moved.MOVED`."""
    for old, new in moved.MOVED.items():
        assert importlib.util.find_spec(new), f"{old} should be in {new}"
        found = importlib.util.find_spec(old)
        assert found is None or found.submodule_search_locations, f"{old} is there"


def test_a_public_name_is_promised_where_the_table_finds_it() -> None:
    for home, names in skipper._HOMES.items():
        module = importlib.import_module(home)
        assert all(getattr(skipper, name) is getattr(module, name) for name in names)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("helprs", "did you mean `functions.helpers`, the file functions/helpers.py?"),
        ("_inner", "did you mean `functions.pkg._inner`, the file functions/pkg/_inner.py?"),
        ("functions.nothere", "there is no file of that name in functions/"),
        ("no_such_package.x", "install the package that provides `no_such_package`"),
    ],
)
def test_a_module_of_the_project_is_not_said_to_be_a_package(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure/azure-functions-python-worker#81"""
    folder = tmp_path / "functions"
    (folder / "pkg").mkdir(parents=True)
    for file in ("helpers.py", "pkg/_inner.py"):
        (folder / file).touch()
    functions = ModuleType("functions")
    functions.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, "functions", functions)
    error = ModuleNotFoundError(f"No module named {name!r}", name=name)
    assert told in faults.describe(error, folder / "a.py").hint
