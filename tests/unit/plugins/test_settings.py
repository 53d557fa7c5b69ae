"""What ``[plugins.tabular]`` may say, and what is told of the rest."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import skipper_tabular
from skipper_tabular.settings import Settings


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project that has tables in two folders; the plugin is set up in it and forgets it."""
    folder = tmp_path / "project"
    for path in ("data", "deep/tables", "../elsewhere"):
        (folder / path).mkdir(parents=True)
    (folder / "file").touch()
    (folder / "around").symlink_to(tmp_path)
    monkeypatch.chdir(folder)
    before = [*skipper_tabular.configured]
    yield folder
    skipper_tabular.configured[:] = before


def taken(**table: Any) -> Settings:
    skipper_tabular.skipper_settings(settings=table)
    return skipper_tabular.configured[0]


def test_an_empty_table_means_the_folder_data_and_no_named_model(project: Path) -> None:
    assert (taken().folder, taken().models) == (project / "data", ())


@pytest.mark.parametrize("folder", ["deep/tables", "../elsewhere", "data/"])
def test_the_operator_names_whichever_folder(folder: str, project: Path) -> None:
    assert taken(folder=folder).folder == (project / folder).resolve()


@pytest.mark.parametrize("models", [["houses", "flats"], "houses,flats", "houses,flats,"])
def test_models_are_a_list_or_the_text_of_a_variable(models: Any) -> None:
    assert taken(models=models).models == ("houses", "flats")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"folder": "none"}, "no such folder"),
        ({"folder": "file"}, "no such folder"),
        ({"folder": ""}, "name a folder"),
        ({"folder": "  "}, "name a folder"),
        ({"folder": "."}, "nothing but tables"),
        ({"folder": ".."}, "nothing but tables"),
        ({"folder": "/"}, "nothing but tables"),
        ({"folder": "around"}, "nothing but tables"),
        ({"models": ["../boston"]}, "pattern"),
        ({"models": [""]}, "at least|pattern"),
        ({"folders": "data"}, "Extra inputs"),
    ],
)
def test_a_wrong_table_is_refused_in_words(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        taken(**table)


def test_the_default_folder_need_not_be_there_for_callers_who_send_texts(project: Path) -> None:
    (project / "data").rmdir()
    assert not taken().folder.exists()


def test_where_a_library_is_missing_the_table_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pandas, sklearn, skops: pip install .*\[tabular\]"):
        taken()
