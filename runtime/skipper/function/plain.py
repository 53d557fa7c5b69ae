"""Plain data for what a value holds beside it: arrays, tensors, frames, dates of NumPy.

No library is imported for it. What would lose something on the way is refused, naming it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from skipper.function.parameters import type_name

_METHODS = ("to_dicts", "to_pylist", "tolist", "to_list", "numpy", "item", "to_dict")
"""What makes plain data of itself; the first ones of tables, row by row."""
_OF_MODELS = ("fit", "predict", "forward", "state_dict")
"""What the models of one library or another can do."""


def plain(value: Any) -> Any:
    """Plain data for a value; whoever asks does so again for what is in there.

    Raises TypeError for what has none, ValueError for what would be lost.
    """
    library = _library_of(value)
    if library == "pandas":
        return _of_pandas(value)
    if library == "numpy":
        return _of_numpy(value)
    if isinstance(value, range):
        return list(value)
    for method in _METHODS:
        if callable(convert := getattr(value, method, None)):
            return convert()
    kind = type_name(type(value))
    if any(callable(getattr(value, method, None)) for method in _OF_MODELS):
        raise TypeError(f"{kind} is not JSON; publish a model as skipper.Model('name', value)")
    raise TypeError(f"{kind} is not JSON; return plain data, a pydantic model or a dataclass")


def _library_of(value: Any) -> str:
    names = (base.__module__.partition(".")[0] for base in type(value).__mro__)
    return next((name for name in names if name in ("numpy", "pandas")), "")


# --- numpy ---------------------------------------------------------------------------------------


def _of_numpy(value: Any) -> Any:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind == "M":
        return _without_nat(sys.modules["numpy"].datetime_as_string(value).tolist())
    if kind == "m":  # in microseconds, because those of nanoseconds become bare numbers
        return value.astype("timedelta64[us]").tolist()
    if kind == "c":
        raise TypeError("complex numbers are not JSON; return their real and imaginary parts")
    return value.tolist()


def _without_nat(data: Any) -> Any:
    if isinstance(data, list):
        return [_without_nat(each) for each in data]
    return None if data == "NaT" else data


# --- pandas --------------------------------------------------------------------------------------


def _of_pandas(value: Any) -> Any:
    pd = sys.modules["pandas"]
    if value is pd.NA:
        return None
    if isinstance(value, pd.DataFrame):
        return _rows(value)
    if isinstance(value, pd.Series):
        return _of_series(value)
    if isinstance(value, pd.Period):
        return str(value)
    if callable(convert := getattr(value, "tolist", None)):
        return _cells(convert())
    raise TypeError(f"{type_name(type(value))} is not JSON; return plain data")


def _rows(frame: Any) -> list[dict[str, Any]]:
    """A frame as its records. Raises ValueError for what they have no place for."""
    names = list(frame.columns)
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"column {name!r} has no text for a name: rename it")
        if names.count(name) > 1:
            raise ValueError(f"there are two columns {name!r}: rename one")
    if not _is_of_rows(frame.index):
        raise ValueError(
            "the index of the frame would be lost: make it a column with frame.reset_index(), or "
            "drop it with frame.reset_index(drop=True)"
        )
    columns = [_cells(frame[name].tolist()) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _of_series(series: Any) -> Any:
    """A list, or an object where each cell has a text of its own in the index."""
    cells, index = _cells(series.tolist()), series.index
    if _is_of_rows(index):
        return cells
    if index.is_unique and all(isinstance(each, str) for each in index):
        return dict(zip(index, cells, strict=True))
    raise ValueError(
        "the index of the series would be lost: write series.reset_index(), which keeps it as a "
        "column, or series.tolist()"
    )


def _is_of_rows(index: Any) -> bool:
    """Whether an index is what rows are numbered by: integers without a name."""
    return index.nlevels == 1 and index.name is None and index.dtype.kind in "iu"


def _cells(cells: Iterable[Any]) -> list[Any]:
    """Cells, of which times are ISO texts whatever their unit, and missing ones None."""
    pd = sys.modules["pandas"]
    missing, times = (pd.NA, pd.NaT), pd.Timestamp
    return [
        None
        if any(cell is each for each in missing)
        else cell.isoformat()
        if isinstance(cell, times)
        else cell
        for cell in cells
    ]
