import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from skipper.instance import loader
from skipper.instance.finder import Finder
from skipper.instance.jobs import ModuleText

Give = Callable[[dict[str, str]], Finder]


@pytest.fixture
def give(tmp_path: Path) -> Iterator[Give]:
    """Has modules imported from texts: names → texts; each name's file says something else."""
    modules, path, finders = dict(sys.modules), [*sys.path], [*sys.meta_path]
    project = loader.project_of(tmp_path)
    project.functions_dir.mkdir()
    loader.make_importable(project)

    def run(texts: dict[str, str]) -> Finder:
        return loader.import_from(project, [_text(tmp_path, *item) for item in texts.items()])

    yield run
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)


def _text(folder: Path, name: str, text: str) -> ModuleText:
    file = folder.joinpath(*name.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("1 / 0  # what the disk holds by now")
    return ModuleText(name=name, file=file, text=text.encode())


def imported(name: str) -> ModuleType:
    importlib.invalidate_caches()
    return importlib.import_module(name)


@pytest.mark.parametrize("name", ["functions._rate", "_top_rate", "shop_pkg.rates"])
def test_a_module_is_imported_from_its_text_whatever_the_disk_holds(give: Give, name: str) -> None:
    give({name: "RATE = 3"})
    module = imported(name)
    assert module.RATE == 3
    assert module.__file__ is not None
    assert Path(module.__file__).read_text().startswith("1 / 0")


def test_tracebacks_show_the_text_that_ran(give: Give) -> None:
    give({"functions._rate": "def rate():\n    raise ValueError('as it was')"})
    with pytest.raises(ValueError, match="as it was") as raised:
        imported("functions._rate").rate()
    assert "raise ValueError('as it was')" in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("name", ["functions._other", "_top_other", "shop_two.inner"])
def test_a_module_of_the_project_without_a_text_is_refused_with_what_to_do(
    give: Give, tmp_path: Path, name: str
) -> None:
    texts = {"functions.mine": ""}
    if "shop_two" in name:
        texts["shop_two.known"] = ""
    give(texts)
    _text(tmp_path, name, "")
    with pytest.raises(ImportError, match=f"write `import {name}` in one") as raised:
        imported(name)
    assert raised.value.name == name


@pytest.mark.parametrize("place", ["../elsewhere", ".venv/lib/site-packages"])
def test_what_a_plugin_that_is_installed_imports_later_is_left_to_others(
    give: Give, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / place / "some_plugin"
    folder.mkdir(parents=True)
    for name in ("__init__", "functions", "later"):
        (folder / f"{name}.py").touch()
    sys.path.append(str(folder.parent))
    given = give({})
    text = ModuleText(name="some_plugin.functions", file=folder / "functions.py", text=b"")
    finder = loader.import_from(loader.project_of(tmp_path), [text])
    assert given.find_spec("some_plugin.later", [str(folder)]) is None
    assert finder.find_spec("some_plugin.later", [str(folder)]) is None


@pytest.mark.parametrize("name", ["json.tool", "no_such_module", "functions.no_such"])
def test_every_other_module_is_left_to_others(give: Give, name: str) -> None:
    assert give({"functions.mine": ""}).find_spec(name) is None


def test_a_package_finds_the_files_beside_it(give: Give, tmp_path: Path) -> None:
    import pkgutil

    give({"shop_data.inner": ""})
    (tmp_path / "shop_data" / "rows.csv").write_bytes(b"1,2")
    imported("shop_data.inner")
    assert pkgutil.get_data("shop_data.inner", "rows.csv") == b"1,2"


def test_a_plugins_file_is_loaded_from_its_text_where_it_has_one(
    give: Give, tmp_path: Path
) -> None:
    finder = give({"naming": "X = 1"})
    file = tmp_path / "naming.py"
    for path, is_text in ((file, True), (tmp_path / "else.py", False)):
        spec = finder.spec_of_file("naming", path)
        assert spec is not None
        assert (type(spec.loader).__name__ == "_TextLoader") is is_text
