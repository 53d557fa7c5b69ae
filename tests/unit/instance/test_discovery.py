import os
from pathlib import Path

import pytest

from skipper.hookspecs import Project
from skipper.instance.discovery import left_out, skipper_sources


def project(folder: Path, *files: str) -> Project:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("raise RuntimeError('imported')")
    return Project(
        folder=folder, functions_dir=folder / "functions", plugins_dir=folder / "plugins"
    )


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("functions/boston.py", "boston"),
        ("functions/boston/__init__.py", "boston"),
        ("functions/_shared.py", None),
        ("functions/_shared/__init__.py", None),
        ("functions/.hidden.py", None),
        ("functions/__init__.py", None),
        ("functions/__pycache__/boston.py", None),
        ("functions/notes.txt", None),
        ("functions/boston.pyc", None),
        ("functions/with-dash.py", None),
        ("functions/1st.py", None),
        ("functions/two.parts.py", None),
        ("functions/data/no_init.py", None),
        ("functions/deep/er/__init__.py", None),
        ("boston.py", None),
    ],
)
def test_a_file_or_package_is_a_source_if_its_name_can_be_one(
    tmp_path: Path, file: str, found: str | None
) -> None:
    sources = list(skipper_sources(project(tmp_path, file)))
    assert [source.name for source in sources] == ([found] if found else [])
    for source in sources:
        assert source.file == tmp_path / file
        assert source.module == f"functions.{found}"


def test_sources_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    made = project(tmp_path, "functions/b.py", "functions/c.py", "functions/a/__init__.py")
    assert [source.name for source in skipper_sources(made)] == ["a", "b", "c"]


def test_a_project_without_functions_has_none(tmp_path: Path) -> None:
    assert list(skipper_sources(project(tmp_path))) == []


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("my-model.py", "rename it my_model.py"),
        ("my model.py", "rename it my_model.py"),
        ("2024_prices.py", "rename it prices_2024.py"),
        ("2024.py", "rename it file_2024.py"),
        ("prices.v2.py", "rename it prices_v2.py"),
        ("Prices.PY", "rename it Prices.py"),
        ("(copy).py", "rename it copy.py"),
        ("-.py", "rename it file_.py"),
        ("my-pack/__init__.py", "rename it my_pack/"),
        ("team/prices.py", "in a file team/__init__.py"),
    ],
)
def test_what_looks_like_a_source_and_is_none_is_told_with_a_name_that_would_do(
    tmp_path: Path, path: str, hint: str
) -> None:
    """microsoft/python-language-server#736"""
    file = tmp_path / "functions" / path
    file.parent.mkdir(parents=True)
    file.write_text("import skipper\n\n@skipper.data\ndef f(): ...\n")
    (told,) = left_out(project(tmp_path))
    assert told.file == str(file)
    assert told.error.startswith("it is left out: ")
    assert hint in told.hint


@pytest.mark.parametrize(
    "path",
    ["good.py", "_my-helper.py", ".my-file.py", "notes.md", "pack/__init__.py", "pack/_x.py"],
)
def test_what_is_a_source_or_nobody_takes_for_one_is_not_told(tmp_path: Path, path: str) -> None:
    file = tmp_path / "functions" / path
    file.parent.mkdir(parents=True)
    file.write_text("NUMBER = 1\n")
    assert [*left_out(project(tmp_path))] == []
    assert [*left_out(project(tmp_path / "none"))] == []


def test_what_cannot_be_read_beside_the_sources_hides_none_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "functions" / "team"
    folder.mkdir(parents=True)
    (folder / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (folder / "folder.py").mkdir()
    os.mkfifo(folder / "pipe.py")
    (folder / "prices.py").write_text("import skipper\n\n@skipper.data\ndef f(): ...\n")
    assert [Path(told.file).name for told in left_out(project(tmp_path))] == ["prices.py"]
