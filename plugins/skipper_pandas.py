"""pandas for Skipper: a table or a column as a model, by pyarrow.

Importing this module imports neither: every instance loads it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import skipper

FORMAT = skipper.Format(
    name="pandas", libraries={"pandas": "pandas", "pyarrow": "pyarrow"}, extra="tables"
)
_TABLE, _COLUMN = "table.parquet", "column.parquet"
_VALUES, _NAME = "values", "name of the column"
"""What the one column is called in the file of a Series, which may have any name, or none."""


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    """Save a ``DataFrame`` or a ``Series`` as Parquet, with its index and its types.

    Raises FormatError where another table would come back.
    """
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, pandas.DataFrame | pandas.Series):
        return None
    with FORMAT.saving(folder):
        try:
            if isinstance(value, pandas.DataFrame):
                value.to_parquet(folder / _TABLE, engine="pyarrow")
            else:
                column = value.to_frame(_VALUES)
                column.attrs = {_NAME: value.name}
                column.to_parquet(folder / _COLUMN, engine="pyarrow")
        except (TypeError, ValueError, NotImplementedError) as error:  # pyarrow's own are of these
            raise skipper.FormatError(f"Parquet cannot keep the table: {error}") from error
        _check_same(value, _read(folder))
    return FORMAT.name


def _check_same(value: Any, again: Any) -> None:
    import pandas as pd

    is_table = isinstance(value, pd.DataFrame)
    same = pd.testing.assert_frame_equal if is_table else pd.testing.assert_series_equal
    try:
        same(value, again, check_exact=True, check_freq=False)
    except AssertionError as error:
        reason = str(error).partition("\n\n")[2].partition("\n")[0] or str(error).partition("\n")[0]
        raise skipper.FormatError(
            f"Parquet would give back another table ({reason:.200}); "
            "turn what it does not keep into numbers, texts or times"
        ) from error


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    """Load a ``DataFrame`` or ``Series``."""
    if format != FORMAT.name:
        return None
    with FORMAT.loading(folder):
        return _read(folder)


def _read(folder: Path) -> Any:
    import pandas as pd

    if not (folder / _COLUMN).exists():
        return pd.read_parquet(folder / _TABLE, engine="pyarrow")
    table = pd.read_parquet(folder / _COLUMN, engine="pyarrow")
    name = table.attrs.pop(_NAME, None)
    column = table[_VALUES].rename(name)
    column.attrs = {}
    return column


@skipper.hook
def skipper_model_state(format: str, model: Any) -> bytes | None:  # noqa: A002 - the hook's word
    """A digest of the rows, the columns and their types."""
    if format != FORMAT.name:
        return None
    import hashlib

    import pandas as pd

    try:
        rows = pd.util.hash_pandas_object(model).to_numpy().tobytes()
    except TypeError:  # of lists and the like, which cannot be hashed
        return None
    table = model if isinstance(model, pd.DataFrame) else model.to_frame()
    what = repr((list(table.columns), [str(each) for each in table.dtypes]))
    return hashlib.sha256(what.encode() + rows).digest()
