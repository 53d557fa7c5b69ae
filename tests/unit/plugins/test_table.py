"""Which files a caller can have read as tables, and what columns are."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from skipper_tabular import table
from skipper_tabular.kinds import ColumnKind
from skipper_tabular.table import Columns

CSV = "a,b\n1,x\n2,y\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a table, a secret, and a table outside it."""
    folder = tmp_path / "project"
    for path in ("data", ".skipper", "other.csv"):
        (folder / path).mkdir(parents=True)
    for path in ("project/data/t.csv", "project/skipper.toml", "project/.skipper/l.csv", "out.csv"):
        (tmp_path / path).write_text(CSV)
    (folder / ".env.csv").write_text(CSV)
    (folder / "out-link.csv").symlink_to(tmp_path / "out.csv")
    (folder / "secret-link.csv").symlink_to(folder / "skipper.toml")
    (folder / "hidden-link.csv").symlink_to(folder / ".skipper" / "l.csv")
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop.csv").symlink_to(folder / "loop.csv")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("path", ["data/t.csv", "./data/t.csv", "data/../data/t.csv"])
@pytest.mark.usefixtures("project")
def test_a_table_of_the_project_is_read(path: str) -> None:
    assert list(table.read(path)["a"]) == [1, 2]


@pytest.mark.usefixtures("project")
def test_an_absolute_path_is_read_if_it_leads_into_the_project() -> None:
    assert len(table.read(str(Path.cwd() / "data" / "t.csv"))) == 2


@pytest.mark.parametrize(
    "path",
    [
        "../out.csv",
        "data/../../out.csv",
        "up/out.csv",
        "out-link.csv",
        "secret-link.csv",
        "hidden-link.csv",
        "loop.csv",
        "skipper.toml",
        ".skipper/l.csv",
        ".env.csv",
        "data",
        "missing.csv",
        "data/t.csv\0.csv",
        "/etc/passwd",
        "/dev/stdin",
        "..%2fout.csv",
        "http://127.0.0.1/t.csv",
        "file:///etc/hostname.csv",
        "",
        "a" * 5000 + ".csv",
    ],
)
@pytest.mark.usefixtures("project")
def test_no_other_file_is_read(path: str) -> None:
    with pytest.raises(ValueError, match=r"is not a \.csv file inside the project's folder"):
        table.read(path)


def test_the_refusal_does_not_show_what_exists(project: Path) -> None:
    def message(path: str) -> str:
        with pytest.raises(ValueError, match="not a") as caught:
            table.read(path)
        return str(caught.value).replace(path, "")

    assert message("../out.csv") == message("../none.csv")
    assert message(str(project / "skipper.toml")) == message("/none")


def test_what_is_no_regular_file_is_refused_without_waiting(project: Path) -> None:
    os.mkfifo(project / "pipe.csv")

    for path in ("pipe.csv", "other.csv"):
        with pytest.raises(ValueError, match=r"not a regular file|cannot be read"):
            table.read(path)


def test_a_file_above_the_limit_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_FILE_MB", 1)
    (project / "big.csv").write_text("a\n" + "1\n" * (1 << 19))

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
