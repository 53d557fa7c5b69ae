"""Tables out of CSV: where they may be read from, and what each column is.

A caller names a file of the folder in the plugin's settings, or sends the text. No other file can
be read: see :func:`locate`.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

import skipper_tabular
from skipper_tabular.kinds import ColumnKind

MAX_FILE_MB = 64
MAX_COLUMNS = 2000
MISSING = "(missing)"
"""What a missing value of a category is called."""

_FEW = 20


@dataclass(frozen=True, kw_only=True)
class Columns:
    """A table's columns by kind, in the table's order."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    left_out: tuple[str, ...]
    """Known but not looked at; the target is among them."""

    @property
    def names(self) -> list[str]:
        return [*self.numbers, *self.categories, *self.left_out]


def read(csv: str, separator: str = ",") -> pd.DataFrame:
    """Read ``csv``: the text itself if it has a line break, else the path of a table.

    Names are stripped; ``NA``, ``null`` and empty fields are missing. Raises ValueError, in words,
    for a path that may not be read and for text that is no table.
    """
    data = csv.encode() if is_text(csv) else content(csv)
    try:
        table = pd.read_csv(
            io.BytesIO(data), sep=separator, skipinitialspace=True, low_memory=False
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"the CSV cannot be read: {error}") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("the CSV's rows have more values than its first line has names")
    return _named(table)


def is_text(csv: str) -> bool:
    """Whether ``csv`` is a table rather than the path of one: only a table has a line break."""
    return "\n" in csv or "\r" in csv


def content(path: str) -> bytes:
    """What is in the file that a caller means by ``path``. Raises ValueError as :func:`locate`.

    It is a regular file of bounded size, whatever the name stands for by now.
    """
    folder, file = locate(path)
    limit = MAX_FILE_MB << 20
    try:
        with _opened(folder, file) as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read: {error.strerror}") from None
    if len(data) > limit:
        raise ValueError(f"{path!r} is larger than {MAX_FILE_MB} MiB")
    return data


def locate(path: str) -> tuple[Path, Path]:
    """The folder of tables, and of the file in it that a caller means its path from there.

    Raises ValueError unless that is a ``.csv`` file inside the folder, links followed, and neither
    the file nor a folder on the way is hidden. That the path is relative and never goes up keeps
    the refusals of all else alike: they do not tell what exists.
    """
    refusal = ValueError(
        f"{path!r} is not a .csv file in the folder that this project serves tables from; "
        "name one relative to that folder, or send the text of the table itself"
    )
    named = PurePosixPath(path)
    if not skipper_tabular.configured or named.is_absolute() or ".." in named.parts:
        raise refusal
    folder = skipper_tabular.configured[0].folder
    try:
        file = (folder / named).resolve(strict=True).relative_to(folder)
    except (OSError, ValueError, RuntimeError):
        raise refusal from None
    if file.suffix.lower() != ".csv" or any(part.startswith(".") for part in file.parts):
        raise refusal
    return folder, file


def _opened(folder: Path, file: Path) -> BinaryIO:
    """The regular ``file``, relative to ``folder``, reached without following a link.

    :func:`locate` has followed those that were there; one that has come since leads nowhere.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    found = os.open(folder, flags | os.O_DIRECTORY)
    try:
        for part in file.parts:
            outer, found = found, os.open(part, flags, dir_fd=found)
            os.close(outer)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return os.fdopen(found, "rb")
    except OSError:
        os.close(found)
        raise


def _named(table: pd.DataFrame) -> pd.DataFrame:
    names = [str(name).strip() for name in table.columns]
    twice = (
        sorted({name for name in names if names.count(name) > 1})
        if len(names) != len(set(names))
        else []
    )
    if twice:
        raise ValueError(f"the CSV has several columns named {', '.join(map(repr, twice))}")
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"the CSV has {len(names)} columns; at most {MAX_COLUMNS} are taken")
    if not len(table):
        raise ValueError("the CSV has no rows below its first line")
    return table.set_axis(names, axis="columns")


def kind_of(column: pd.Series[Any]) -> ColumnKind:
    """What a column is: decided by its values, see :class:`ColumnKind`."""
    distinct = column.nunique()
    if distinct < 2:
        return ColumnKind.LEFT_OUT
    if pd.api.types.is_numeric_dtype(column):
        return ColumnKind.NUMBER
    is_own = distinct > _FEW and distinct > column.count() / 2
    return ColumnKind.LEFT_OUT if is_own else ColumnKind.CATEGORY


def columns_of(table: pd.DataFrame, target: str) -> Columns:
    """The columns of ``table`` by what a model that learns ``target`` can do with them."""
    by_kind: dict[ColumnKind, list[str]] = {kind: [] for kind in ColumnKind}
    for name in table.columns:
        by_kind[ColumnKind.LEFT_OUT if name == target else kind_of(table[name])].append(name)
    return Columns(
        numbers=tuple(by_kind[ColumnKind.NUMBER]),
        categories=tuple(by_kind[ColumnKind.CATEGORY]),
        left_out=tuple(by_kind[ColumnKind.LEFT_OUT]),
    )


def features(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """``table`` as a model takes it in: numbers as float64, NaN where missing, categories as text.

    A column that ``table`` lacks is missing in every row; what is left out is empty. Raises
    ValueError for text among numbers.
    """
    taken = table.reindex(columns=columns.names)
    made: dict[str, Any] = {name: numbers(taken[name]) for name in columns.numbers}
    made |= {name: _texts(taken[name]) for name in columns.categories}
    made |= dict.fromkeys(columns.left_out, MISSING)
    return pd.DataFrame(made, index=table.index)


def numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column as float64, NaN for what is missing or infinite. Raises ValueError for text."""
    try:
        values = pd.to_numeric(column).astype("float64")
    except (ValueError, TypeError) as error:
        raise ValueError(f"column {column.name!r} takes numbers: {error}") from None
    return values.where(np.isfinite(values))


def _texts(column: pd.Series[Any]) -> pd.Series[Any]:
    values = [
        MISSING if missing else str(value)
        for value, missing in zip(column, column.isna(), strict=True)
    ]
    return pd.Series(values, index=column.index, dtype=object)
