import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skipper.instance import loader
from skipper.instance.jobs import SourceInfo
from skipper.instance.modules import ProjectModules, modules_in, plugin_files
from skipper.settings import trust

Find = Callable[..., dict[str, str]]


@pytest.fixture
def find(tmp_path: Path) -> Iterator[Find]:
    """Writes files of a project; the modules that ``functions/mine.py`` consists of, by name."""
    path, functions = [*sys.path], sys.modules.get("functions")
    project = loader.project_of(tmp_path)
    loader.make_importable(project)

    def run(files: dict[str, str], *, of: str = "functions/mine.py") -> dict[str, str]:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        file = tmp_path / of
        module = "functions." + (file.parent.name if file.name == "__init__.py" else file.stem)
        found = ProjectModules(project).of(module, file)
        return {name: str(path.relative_to(tmp_path)) for name, path in found.items()}

    yield run
    sys.path[:] = path
    if functions is None:
        del sys.modules["functions"]
    else:
        sys.modules["functions"] = functions


@pytest.fixture
def make(find: Find, tmp_path: Path) -> Find:
    """Writes files as ``find`` does; the modules that make what ``functions/mine.py`` loads."""

    def run(files: dict[str, str]) -> dict[str, str]:
        own = {name: tmp_path / file for name, file in find(files).items()}
        found = ProjectModules(loader.project_of(tmp_path)).makers(own)
        return {name: str(path.relative_to(tmp_path)) for name, path in found.items()}

    return run


MINE = {"functions.mine": "functions/mine.py"}


@pytest.mark.parametrize(
    ("text", "helpers"),
    [
        ("import functions._rate", {"functions._rate": "functions/_rate.py"}),
        ("from functions import _rate", {"functions._rate": "functions/_rate.py"}),
        ("from functions._rate import RATE", {"functions._rate": "functions/_rate.py"}),
        ("from . import _rate", {"functions._rate": "functions/_rate.py"}),
        ("from ._rate import *", {"functions._rate": "functions/_rate.py"}),
        ("import _rate", {"_rate": "functions/_rate.py"}),
        ("def f():\n  from functions import _rate", {"functions._rate": "functions/_rate.py"}),
        ("import_module('functions._rate')", {"functions._rate": "functions/_rate.py"}),
        ("import shop.rates", {"shop": "shop/__init__.py", "shop.rates": "shop/rates.py"}),
        ("from shop import rates", {"shop": "shop/__init__.py", "shop.rates": "shop/rates.py"}),
        ("from bare.inner import x", {"bare.inner": "bare/inner.py"}),
        ("import top", {"top": "top.py"}),
        ("import json, numpy, skipper, no_such", {}),
        ("from functions import no_such", {}),
    ],
)
def test_a_file_consists_of_itself_and_the_modules_of_the_project_that_it_imports(
    find: Find, text: str, helpers: dict[str, str]
) -> None:
    files = dict.fromkeys(
        ("functions/_rate.py", "shop/__init__.py", "shop/rates.py", "bare/inner.py", "top.py"), ""
    )
    assert find(files | {"functions/mine.py": text, "functions/_other.py": ""}) == MINE | helpers


def test_what_an_imported_module_imports_counts_too_round_any_circle(find: Find) -> None:
    files = {
        "functions/mine.py": "from functions import _a",
        "functions/_a.py": "from . import _b",
        "functions/_b.py": "import deep.c",
        "deep/__init__.py": "",
        "deep/c.py": "from functions import mine, _a\nfrom .d import x",
        "deep/d.py": "",
    }
    names = {"functions._a", "functions._b", "deep", "deep.c", "deep.d"}
    assert set(find(files)) == {*MINE, *names}


def test_a_package_is_all_that_its_folder_holds(find: Find) -> None:
    files = {
        "functions/house/__init__.py": "from . import price",
        "functions/house/price.py": "from ._deep import rows",
        "functions/house/unused.py": "",
        "functions/house/_deep/__init__.py": "",
        "functions/house/_deep/rows.py": "import functions._rate",
        "functions/_rate.py": "",
    }
    inner = {"", ".price", ".unused", "._deep", "._deep.rows"}
    found = find(files, of="functions/house/__init__.py")
    assert set(found) == {"functions._rate", *(f"functions.house{name}" for name in inner)}


def test_of_an_import_whose_name_only_running_it_shows_all_of_functions_counts(find: Find) -> None:
    files = {
        "functions/mine.py": "import_module(f'functions._{name}')",
        "functions/_a.py": "import top",
        "functions/other.py": "def broken(:",
        "top.py": "",
    }
    assert set(find(files)) == {*MINE, "functions._a", "functions.other", "top"}


def test_a_broken_helper_is_a_part_all_the_same(find: Find) -> None:
    """Else the file would not be read again when it has been mended."""
    files = {"functions/mine.py": "from functions import _a", "functions/_a.py": "def f(:"}
    assert set(find(files)) == {*MINE, "functions._a"}


@pytest.mark.parametrize(
    ("loads", "makes"),
    [
        ("Loaded('iris')", "skipper.Model('iris', 1)"),
        ("skipper.Loaded('iris@7')", "Model(name='iris', value=1)"),
        (
            "NAME = 'iris'\ndef f(*, m: Annotated[Any, Loaded(NAME)]): ...",
            "M = 'iris'\nModel(M, 1)",
        ),
    ],
)
def test_who_loads_a_model_consists_of_what_trains_it_too(
    make: Find, loads: str, makes: str
) -> None:
    """Because a model may name classes of it."""
    files = {
        "functions/mine.py": loads,
        "functions/train.py": f"from functions import _scaling\n{makes}",
        "functions/_scaling.py": "",
        "functions/other.py": "Model('other', 1)",
        "functions/broken.py": "Model('iris', 1",
    }
    assert set(make(files)) == {"functions.train", "functions._scaling"}


@pytest.mark.parametrize(
    "loads", ["", "Loaded('house')", "Loaded(f'{x}')", "Loaded(NAME)", "Loaded()"]
)
def test_who_loads_another_model_does_not(make: Find, loads: str) -> None:
    files = {"functions/mine.py": loads, "functions/train.py": "Model('iris', 1)\nModel(x, 1)"}
    assert make(files) == {}


def test_a_file_that_cannot_be_parsed_is_an_error(find: Find) -> None:
    with pytest.raises(SyntaxError):
        find({"functions/mine.py": "def f(:"})


def test_what_is_installed_in_the_projects_folder_is_not_the_projects(
    find: Find, tmp_path: Path
) -> None:
    installed = tmp_path / "venv" / "lib" / "site-packages"
    sys.path.append(str(installed))
    files = {"functions/mine.py": "import bought", f"{installed}/bought.py": "import top"}
    assert find(files | {"top.py": ""}) == MINE


def test_plugins_and_what_they_import_are_found_once_for_all_files(
    find: Find, tmp_path: Path
) -> None:
    find(
        {
            "functions/mine.py": "",
            "plugins/a.py": "import codec",
            "plugins/_b.py": "",
            "codec.py": "",
        }
    )
    modules = ProjectModules(loader.project_of(tmp_path))
    assert set(modules.plugins) == {"a", "codec"}
    assert set(plugin_files(tmp_path / "plugins")) == {"a"}
    assert plugin_files(tmp_path / "none") == {}


def test_a_module_is_its_file(tmp_path: Path) -> None:
    file = tmp_path / "boston.py"
    assert modules_in("functions.boston", file) == {"functions.boston": file}


@pytest.mark.parametrize("name", ["functions/mine.py", "functions/_rate.py", "plugins/p.py"])
def test_what_others_may_write_is_told_and_root_reads_none_of_it(
    name: str, find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find({"functions/mine.py": "from . import _rate", "functions/_rate.py": "", "plugins/p.py": ""})
    (tmp_path / name).chmod(0o666)
    project = loader.project_of(tmp_path)
    source = SourceInfo(
        name="mine",
        file=tmp_path / "functions" / "mine.py",
        module="functions.mine",
        origin="functions",
        code="",
        libraries=(),
        pools=None,
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PermissionError, match=rf"{name} can be written by any user"):
        loader.texts_of(project, source)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() or 4711)
    monkeypatch.setattr(trust, "stranger", lambda path: "")
    modules = ProjectModules(project)
    modules.read(modules.plugins | modules.of("functions.mine", source.file))
    assert modules.warnings == [f"{tmp_path / name} can be written by any user of this machine"]


def test_a_plugin_that_is_no_file_is_no_part_of_any_file(find: Find, tmp_path: Path) -> None:
    find({"functions/mine.py": "", "plugins/good.py": ""})
    (tmp_path / "plugins" / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "plugins" / "folder.py").mkdir()
    assert set(ProjectModules(loader.project_of(tmp_path)).plugins) == {"good"}
