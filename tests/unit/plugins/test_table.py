"""Which files a caller can have read as tables, and what columns are."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import skipper_tabular
from skipper_tabular import table
from skipper_tabular.kinds import ColumnKind
from skipper_tabular.settings import Settings
from skipper_tabular.table import Columns

CSV = "a,b\n1,x\n2,y\n"


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of tables of a project that has secrets and other tables around it."""
    project = tmp_path / "project"
    folder = project / "data"
    for path in ("deep", ".hidden", "folder.csv"):
        (folder / path).mkdir(parents=True)
    (project / ".skipper").mkdir()
    for path in ("data/t.csv", "data/deep/T.CSV", "data/.hidden/t.csv", "data/.env.csv"):
        (project / path).write_text(CSV)
    for path in ("project/skipper.toml", "project/.skipper/l.csv", "project/other.csv", "out.csv"):
        (tmp_path / path).write_text(CSV)
    for link, target in (
        ("in-link.csv", folder / "t.csv"),
        ("out-link.csv", tmp_path / "out.csv"),
        ("project-link.csv", project / "other.csv"),
        ("secret-link.csv", project / "skipper.toml"),
        ("hidden-link.csv", folder / ".hidden" / "t.csv"),
        ("loop.csv", folder / "loop.csv"),
        ("up", project),
    ):
        (folder / link).symlink_to(target)
    os.mkfifo(folder / "pipe.csv")
    monkeypatch.chdir(project)
    monkeypatch.setattr(skipper_tabular, "configured", [Settings()])
    return folder


@pytest.mark.parametrize("path", ["t.csv", "./t.csv", "deep/T.CSV", "deep//T.CSV", "in-link.csv"])
@pytest.mark.usefixtures("tables")
def test_a_table_of_the_folder_is_read(path: str) -> None:
    assert list(table.read(path)["a"]) == [1, 2]


OTHERS = [
    "../other.csv",
    "deep/../t.csv",
    "deep/../../../out.csv",
    "up/other.csv",
    "out-link.csv",
    "project-link.csv",
    "secret-link.csv",
    "hidden-link.csv",
    "loop.csv",
    ".env.csv",
    ".hidden/t.csv",
    "../skipper.toml",
    "../.skipper/l.csv",
    "data/t.csv",
    "missing.csv",
    "t.csv\0.csv",
    "t.csv\0",
    "/etc/passwd",
    "/dev/stdin",
    "..%2fout.csv",
    "http://127.0.0.1/t.csv",
    "file:///etc/hostname.csv",
    "~/t.csv",
    "",
    ".",
    "a" * 5000 + ".csv",
]


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.usefixtures("tables")
def test_no_other_file_is_read(path: str) -> None:
    with pytest.raises(ValueError, match=r"is not a \.csv file in the folder"):
        table.read(path)


def test_an_absolute_path_is_refused_though_it_leads_into_the_folder(tables: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a \.csv file in the folder"):
        table.read(str(tables / "t.csv"))


def test_without_a_table_of_settings_no_file_is_read(
    tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skipper_tabular, "configured", [])
    for path in ("t.csv", "data/t.csv", str(tables / "t.csv")):
        with pytest.raises(ValueError, match=r"is not a \.csv file in the folder"):
            table.read(path)


def test_the_refusal_does_not_show_what_exists(tables: Path) -> None:
    def message(path: str) -> str:
        with pytest.raises(ValueError, match="not a") as caught:
            table.read(path)
        return str(caught.value).replace(repr(path), "")

    told = {message(path) for path in (*OTHERS, str(tables.parent / "skipper.toml"), "/none")}
    assert len(told) == 1
    assert str(tables) not in told.pop()


@pytest.mark.parametrize("path", ["pipe.csv", "folder.csv"])
@pytest.mark.usefixtures("tables")
def test_what_is_no_regular_file_is_refused_without_waiting(path: str) -> None:
    with pytest.raises(ValueError, match="it is not a regular file"):
        table.read(path)


@pytest.mark.parametrize("part", ["deep", "deep/T.CSV"])
def test_a_link_that_comes_between_the_look_and_the_reading_leads_nowhere(
    part: str, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = table.locate("deep/T.CSV")
    monkeypatch.setattr(table, "locate", lambda path: found)
    (tables / "deep").rename(tables / "moved")
    if part == "deep":
        (tables / "deep").symlink_to(tables / "moved")
    else:
        (tables / "deep").mkdir()
        (tables / "deep/T.CSV").symlink_to(tables / "moved/T.CSV")
    with pytest.raises(ValueError, match="cannot be read"):
        table.read("deep/T.CSV")


def test_a_file_above_the_limit_is_refused(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_FILE_MB", 1)
    (tables / "big.csv").write_text("a\n" + "1\n" * (1 << 19))

    with pytest.raises(ValueError, match="larger than 1 MiB"):
        table.read("big.csv")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n", "no rows"),
        ("\n", "cannot be read"),
        ("a,b\n1,2,3\n1,2,3\n", "more values than its first line has names"),
        ("a,b\n1,2\n1,2,3\n", "cannot be read"),
        ("a ,a\n1,2\n", "several columns named 'a'"),
        (",".join("abc"[i % 3] + str(i) for i in range(2001)) + "\n1\n", "2001 columns"),
    ],
)
def test_what_is_no_table_is_refused_in_words(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        table.read(text)


def test_text_may_have_another_separator_a_mark_and_blanks() -> None:
    found = table.read("\ufeffa ; b\r\n1;\r\n2;NA\r\n3;x\r\n", ";")

    assert list(found.columns) == ["a", "b"]
    assert int(found["b"].isna().sum()) == 2


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, None], ColumnKind.NUMBER),
        ([True, False, True], ColumnKind.NUMBER),
        (["x", "y", "x"], ColumnKind.CATEGORY),
        (["x", "x", None], ColumnKind.LEFT_OUT),
        ([None, None, None], ColumnKind.LEFT_OUT),
        ([f"name {number}" for number in range(30)], ColumnKind.LEFT_OUT),
        ([f"town {number % 25}" for number in range(100)], ColumnKind.CATEGORY),
    ],
)
def test_the_values_of_a_column_decide_what_it_is(values: list[Any], kind: ColumnKind) -> None:
    assert table.kind_of(pd.Series(values)) is kind


def test_features_have_fixed_types_whatever_comes_in() -> None:
    columns = Columns(numbers=("n", "m"), categories=("c",), left_out=("id",))

    made = table.features(
        pd.DataFrame({"c": ["x", None, 3], "n": ["1.5", float("inf"), None]}, dtype=object), columns
    )

    assert list(made.columns) == ["n", "m", "c", "id"]
    assert made["n"].tolist()[0] == 1.5
    assert made["n"].isna().tolist() == [False, True, True]
    assert made["m"].isna().all()
    assert made["c"].tolist() == ["x", table.MISSING, "3"]


def test_text_among_numbers_is_an_error_with_its_column() -> None:
    columns = Columns(numbers=("n",), categories=(), left_out=())

    with pytest.raises(ValueError, match="column 'n' takes numbers"):
        table.features(pd.DataFrame({"n": ["many"]}), columns)
