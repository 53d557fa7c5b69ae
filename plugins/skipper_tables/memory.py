"""How much memory a table takes once every cell of it is there on its own.

Arrow has columns of which a few bytes stand for any number of cells: those of nothing but null,
those that refer to a dictionary, views of which all show the same text. Pandas, polars and JSON
write them out, so that they count as written out; what repeats itself in yet other ways is refused.
"""

from __future__ import annotations

from typing import Any

_CELL = 8


def written_out(table: Any) -> int:
    """Bytes, of an Arrow table or record batch that is valid.

    Raises ValueError for a column of a type that does not cross, and for rows without any column.
    """
    if table.num_rows and not table.num_columns:
        raise ValueError(f"the table has {table.num_rows} rows and no column")
    return sum(_column_size(name, table.column(at)) for at, name in enumerate(table.schema.names))


def _column_size(name: str, column: Any) -> int:
    chunks = getattr(column, "chunks", [column])
    try:
        return sum(map(_size, chunks))
    except _UnknownKindError as error:
        raise ValueError(f"column {name!r} is of {error}, which does not cross") from None


class _UnknownKindError(Exception):
    """A type of columns that repeats itself in some way of its own."""


def _size(array: Any) -> int:
    import pyarrow as pa

    types: Any = pa.types
    kind: Any = array.type
    if isinstance(array, pa.ExtensionArray):
        return _size(array.storage)
    if types.is_null(kind):
        return _CELL * len(array)
    if types.is_dictionary(kind):
        return _size_of_referred(array)
    if str(kind) in ("string_view", "binary_view"):
        return _size_of_views(array)
    if types.is_struct(kind):
        return sum(map(_size, array.flatten()))
    if types.is_map(kind):
        return _size(array.keys) + _size(array.items) + int(array.nbytes)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _size(array.flatten()) + _CELL * len(array)
    if types.is_nested(kind) or types.is_run_end_encoded(kind):
        raise _UnknownKindError(kind)
    return int(array.nbytes)


def _size_of_referred(array: Any) -> int:
    """Of a column of a dictionary's cells."""
    import pyarrow as pa
    from pyarrow import compute

    values, kind = array.dictionary, array.type.value_type
    if pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        raise _UnknownKindError(array.type)
    if str(kind) in ("string_view", "binary_view"):
        values = values.cast(pa.large_string() if kind == pa.string_view() else pa.large_binary())
    elif not _is_of_bytes(kind):
        return _CELL * len(array)
    lengths = compute.binary_length(values).cast(pa.int64())
    total = compute.sum(compute.take(lengths, array.indices)).as_py() or 0
    return int(total) + _CELL * len(array)


def _is_of_bytes(kind: Any) -> bool:
    import pyarrow as pa

    of_bytes = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
    return kind in of_bytes or pa.types.is_fixed_size_binary(kind)


def _size_of_views(array: Any) -> int:
    """Of a column of views, each of which begins with its length (columnar format)."""
    import numpy as np
    import pyarrow as pa

    if not len(array):
        return 0
    views = np.frombuffer(array.buffers()[1], dtype=pa.int32().to_pandas_dtype())
    lengths = views.reshape(-1, 4)[array.offset : array.offset + len(array), 0]
    is_there = np.asarray(array.is_valid())
    return int(lengths[is_there].sum(dtype=np.int64)) + 2 * _CELL * len(array)
