"""What plugins share that keep models: libraries that a format needs, names of the project."""

from collections.abc import Callable
from pathlib import Path

import pytest

from skipper.errors import FormatError
from skipper.formats import Format, from_project

SOUND = Format(name="sound", libraries={"pytest": "pytest"}, extra="sound")
ABSENT = Format(name="absent", libraries={"no_such_library": "no-such-library"}, extra="absent")

SCALING = """
import os
from collections import OrderedDict as Imported

class Scaler:
    class Inner: ...

def scaled(x): return x * 2

def made():
    class Local: ...
    return Local

doubled = lambda x: x * 2
made_of_it = Scaler()
"""


TRAINS = "import skipper\nfrom functions._scaling import Scaler\nskipper.Model('iris', Scaler())\n"
SERVES = (
    "import skipper\nx: 'Annotated[Any, skipper.Loaded(\"iris\")]'\ny = skipper.Loaded('iris')\n"
)
FILES = {
    "functions/_scaling.py": SCALING,
    "functions/train.py": TRAINS,
    "functions/serve.py": SERVES,
    "functions/other.py": "import skipper\n",
}


@pytest.mark.parametrize("name", ["Scaler", "scaled"])
@pytest.mark.parametrize("serving", ["functions/train.py", "functions/serve.py"])
def test_a_class_of_the_project_is_found_by_whoever_trains_or_loads_the_model(
    project: Callable[..., None], serving: str, name: str
) -> None:
    project(FILES, serving)

    found = from_project("functions._scaling", name)
    assert (found.__module__, found.__name__) == ("functions._scaling", name)


def test_it_is_made_from_the_text_that_was_read_then(
    project: Callable[..., None], tmp_path: Path
) -> None:
    project(FILES, "functions/serve.py")
    (tmp_path / "functions/_scaling.py").write_text("1 / 0")

    assert from_project("functions._scaling", "scaled")(3) == 6


@pytest.mark.parametrize(
    ("module", "name", "told"),
    [
        ("functions._scaling", "Gone", "is gone from the project; put it back"),
        ("functions._gone", "Scaler", "is gone from the project; put it back"),
        ("functions._scaling", "Imported", "is no class or plain function"),
        ("functions._scaling", "os", "is no class or plain function"),
        ("functions._scaling", "made_of_it", "is no class or plain function"),
        ("functions._scaling", "doubled", "is no class or plain function"),
        ("functions._scaling", "Scaler.Inner", "is gone"),
        ("os", "system", "is of no file of this project"),
        ("os.path", "join", "is of no file of this project"),
        ("skipper.blobs", "BlobStore", "is of no file of this project"),
        ("__main__", "main", "is of no file of this project"),
    ],
)
def test_what_is_not_the_projects_own_is_refused(
    project: Callable[..., None], module: str, name: str, told: str
) -> None:
    project(FILES, "functions/train.py")

    with pytest.raises(FormatError, match=told):
        from_project(module, name)


def test_a_file_that_the_functions_code_does_not_name_is_told(
    project: Callable[..., None],
) -> None:
    project(FILES, "functions/other.py")

    with pytest.raises(FormatError, match=r"write `import functions\._scaling` in one"):
        from_project("functions._scaling", "Scaler")


def test_a_file_that_cannot_be_imported_says_so_itself(project: Callable[..., None]) -> None:
    project({**FILES, "functions/_scaling.py": "1 / 0"}, "functions/train.py")

    with pytest.raises(ZeroDivisionError):
        from_project("functions._scaling", "Scaler")


def test_a_library_that_is_not_installed_is_named_with_its_extra(tmp_path: Path) -> None:
    install = r"needs no-such-library, .* pip install 'skipper-runtime\[absent\]'"
    with pytest.raises(FormatError, match=install), ABSENT.saving(tmp_path):
        raise AssertionError
    with pytest.raises(FormatError, match=install), ABSENT.loading(tmp_path):
        raise AssertionError
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("coef"), "KeyError: 'coef'"),
        (RuntimeError("first line\nsecond line"), "RuntimeError: first line$"),
        (MemoryError(), "MemoryError: no reason given"),
        (FormatError("a sentence"), "^a sentence$"),
    ],
)
def test_what_cannot_be_loaded_is_told_with_its_reason(
    tmp_path: Path, error: Exception, told: str
) -> None:
    with pytest.raises(FormatError, match=told), SOUND.loading(tmp_path):
        raise error


@pytest.mark.parametrize("how", ["changed", "gone", "more", "no hashes", "bad hashes"])
def test_a_fragile_format_reads_only_what_it_has_saved(tmp_path: Path, how: str) -> None:
    fragile = Format(name="frail", libraries={}, extra="frail", is_fragile=True)
    file = tmp_path / "model"
    with fragile.saving(tmp_path):
        file.write_bytes(b"sound")
    with fragile.loading(tmp_path):
        assert file.read_bytes() == b"sound"

    if how == "changed":
        file.write_bytes(b"wound")
    elif how == "gone":
        file.unlink()
    elif how == "more":
        (tmp_path / "other").write_bytes(b"")
    elif how == "no hashes":
        (tmp_path / "hashes.json").unlink()
    else:
        (tmp_path / "hashes.json").write_text("{")
    with pytest.raises(FormatError, match="cannot be loaded"), fragile.loading(tmp_path):
        raise AssertionError
