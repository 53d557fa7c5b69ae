"""Tables: how frames of pandas and polars and tables of Arrow cross, all by way of Arrow.

Whatever comes becomes an Arrow table first and then what the hint names, so the three differ in
nothing but their class. What a table of another library has and Arrow has not (an index, columns of
one name, cells of mixed types) is refused, naming the column, and never dropped. The libraries are
imported by whoever has them in a hint, and not by this plugin.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import decimal
import math
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

import skipper
from skipper_tables.memory import written_out
from skipper_tables.unpacked import unpacked_size

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"
JSON = "application/json"


class TableSettings(BaseModel):
    """``[plugins.table-values]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_mb: float = Field(default=2048.0, gt=0)
    """A table that takes more memory than this, in MiB, is refused."""


_settings = TableSettings()
_ROWS = 1 << 12
"""Of a Parquet file, read at once."""
_LARGEST_BLOCK = (1 << 31) - 1


@skipper.hook
def skipper_settings(source: str, settings: Mapping[str, Any]) -> None:
    """Take ``max_mb``."""
    global _settings  # noqa: PLW0603 - one table a process, read before any value
    del source
    _settings = TableSettings.model_validate(settings)


@skipper.hook
def skipper_value_type(hint: Any, marks: tuple[Any, ...]) -> skipper.ValueType | None:
    """Tables, of a class that is a library's only where somebody has imported it."""
    del marks
    for library, name, kind in (
        ("pandas", "DataFrame", PandasType),
        ("polars", "DataFrame", PolarsType),
        ("pyarrow", "Table", ArrowType),
    ):
        module = sys.modules.get(library)
        if module is not None and hint is getattr(module, name, None):
            return kind()
    return None


class TableType(skipper.ValueType):
    """What the types of tables have in common."""

    name = "a table"
    reads = (ARROW, PARQUET, CSV)
    writes = (JSON, CSV, ARROW, PARQUET)
    native = ARROW

    def __init__(self) -> None:
        try:
            import pyarrow as pa
        except ImportError:
            raise ValueError(
                "tables cross by way of pyarrow, which is not installed: "
                "pip install skipper-runtime[tables]"
            ) from None
        self._pa = pa

    @abstractmethod
    def from_arrow(self, table: Any) -> Any:
        """The value that an Arrow table is."""

    @abstractmethod
    def to_arrow(self, value: Any) -> Any:
        """The Arrow table that a value is. Raises ValueError for what it has and Arrow has not."""

    def schema(self) -> dict[str, Any]:
        return {"title": "Table", "type": "array", "items": {"type": "object"}}

    # --- in

    def from_json(self, data: Any) -> Any:
        if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
            raise ValueError('a list of objects is needed, one for each row, or {"file": ID}')
        try:
            table = self._pa.Table.from_pylist(data, self._columns(data))
        except (self._pa.ArrowException, OverflowError, TypeError) as error:
            raise ValueError(f"the rows make no table: {_first_line(error)}") from None
        return self._made("the rows make no table", table)

    def _made(self, otherwise: str, table: Any) -> Any:
        """The value of a table that came. Raises ValueError that begins with ``otherwise``."""
        try:
            _check_names(table.column_names)
            return self.from_arrow(table)
        except (ValueError, MemoryError):
            raise
        except BaseException as error:
            # Because polars tells of a caller's bytes with what is no Exception, too: a panic.
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise ValueError(f"{otherwise}: {_first_line(error)}") from None
            raise

    def _columns(self, rows: list[dict[str, Any]]) -> Any:
        """The schema of rows: a column for each name that stands in any of them."""
        names = dict.fromkeys(name for row in rows for name in row)
        fields = []
        for name in names:
            try:
                column = self._pa.array([row.get(name) for row in rows])
            except (self._pa.ArrowException, OverflowError, TypeError):
                raise ValueError(f"column {name!r} has cells of more than one type") from None
            fields.append(self._pa.field(name, column.type))
        return self._pa.schema(fields)

    def read(self, content: skipper.Content) -> Any:
        reading: Mapping[str, Callable[[Any], Any]] = {
            ARROW: self._read_arrow,
            PARQUET: self._read_parquet,
            CSV: self._read_csv,
        }
        source = self._pa.py_buffer(content.view())
        otherwise = f"these bytes are not {content.media_type}"
        try:
            table = reading[content.media_type](source)
            table.validate(full=True)
        except (self._pa.ArrowException, OSError, OverflowError, MemoryError) as error:
            raise ValueError(f"{otherwise}: {_first_line(error)}") from None
        _check_size(written_out(table))
        return self._made(otherwise, table)

    def _read_arrow(self, source: Any) -> Any:
        # First what it says that it unpacks to, because Arrow sets so much aside at once.
        stream, size = self._pa.BufferReader(source), 0
        with contextlib.suppress(EOFError):
            while True:
                message = self._pa.ipc.read_message(stream)
                body = memoryview(message.body or b"")
                size += unpacked_size(memoryview(message.metadata), body)
                _check_size(size)
        with self._pa.ipc.open_stream(source) as reader:
            return reader.read_all()

    def _read_parquet(self, source: Any) -> Any:
        import pyarrow.parquet as pq

        file = pq.ParquetFile(self._pa.BufferReader(source))
        # The file's own word on what it unpacks to, and then what it does unpack to.
        groups = range(file.metadata.num_row_groups)
        _check_size(sum(file.metadata.row_group(at).total_byte_size for at in groups))
        texts = _texts_of(file)
        referring = pq.ParquetFile(self._pa.BufferReader(source), read_dictionary=texts)
        batches, size = [], 0
        for batch in referring.iter_batches(batch_size=_ROWS):
            batch.validate(full=True)
            size += written_out(batch)
            _check_size(size)
            batches.append(batch.cast(file.schema_arrow))
        return self._pa.Table.from_batches(batches, file.schema_arrow)

    def _read_csv(self, source: Any) -> Any:
        from pyarrow import csv

        _check_size(4 * source.size)  # a column of short numbers grows so much
        # In one block, because the types of columns are those of the cells of the first.
        block = min(max(source.size, 1) + 1, _LARGEST_BLOCK)
        options = csv.ReadOptions(block_size=block)
        table = csv.read_csv(self._pa.BufferReader(source), read_options=options)
        for field in table.schema:
            if self._pa.types.is_binary(field.type):  # what Arrow makes of a text that is none
                raise ValueError(f"column {field.name!r} is not text in UTF-8")
        return table

    # --- out

    def to_json(self, value: Any) -> Any:
        table = self._checked(value)
        if not table.num_columns:
            return []
        columns = [self._cells(name, table[name]) for name in table.column_names]
        return [
            dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)
        ]

    def _cells(self, name: str, column: Any) -> list[Any]:
        try:
            return [_plain(cell, name) for cell in column.to_pylist()]
        except (self._pa.ArrowException, ArithmeticError, TypeError) as error:
            # Such as for a date after the year 9999.
            raise ValueError(f"column {name!r} is no JSON: {_first_line(error)}") from None

    def write(self, value: Any, media_type: str) -> skipper.Written:
        table = self._checked(value)
        sink = self._pa.BufferOutputStream()
        try:
            if media_type == ARROW:
                with self._pa.ipc.new_stream(sink, table.schema) as writer:
                    writer.write_table(table)
            elif media_type == PARQUET:
                import pyarrow.parquet as pq

                pq.write_table(table, sink)
            else:
                from pyarrow import csv

                csv.write_csv(table, sink)
        except self._pa.ArrowException as error:
            raise ValueError(f"the table is no {media_type}: {_first_line(error)}") from None
        return skipper.Written(media_type=media_type, buffers=(memoryview(sink.getvalue()),))

    def _checked(self, value: Any) -> Any:
        table = self.to_arrow(value)
        _check_names(table.column_names)
        if table.num_rows and not table.num_columns:
            raise ValueError(f"the table has {table.num_rows} rows and no column")
        # What pandas has noted for itself is nobody else's to read.
        return table.replace_schema_metadata(None)


class ArrowType(TableType):
    """``pyarrow.Table``."""

    def is_value(self, value: object) -> bool:
        return isinstance(value, self._pa.Table)

    def from_arrow(self, table: Any) -> Any:
        return table

    def to_arrow(self, value: Any) -> Any:
        return value


class PandasType(TableType):
    """``pandas.DataFrame``; an index of more than row numbers is no column, and refused."""

    def __init__(self) -> None:
        super().__init__()
        import pandas as pd

        self._pd, pa = pd, self._pa
        signed = {
            pa.int8(): pd.Int8Dtype(),
            pa.int16(): pd.Int16Dtype(),
            pa.int32(): pd.Int32Dtype(),
        }
        unsigned = {pa.uint8(): pd.UInt8Dtype(), pa.uint16(): pd.UInt16Dtype()}
        unsigned |= {pa.uint32(): pd.UInt32Dtype(), pa.uint64(): pd.UInt64Dtype()}
        self._nullable: dict[Any, Any] = signed | unsigned | {pa.int64(): pd.Int64Dtype()}

    def is_value(self, value: object) -> bool:
        return isinstance(value, self._pd.DataFrame)

    def from_arrow(self, table: Any) -> Any:
        frame = table.replace_schema_metadata(None).to_pandas()
        for at, field in enumerate(table.schema):
            # Because pandas makes floats of integers that lack some, and rounds long ones.
            if table.column(at).null_count and (made := self._nullable.get(field.type)) is not None:
                frame[field.name] = table.column(at).to_pandas(types_mapper={field.type: made}.get)
        return frame

    def to_arrow(self, value: Any) -> Any:
        names = list(value.columns)
        odd = [name for name in names if not isinstance(name, str)]
        if odd:
            raise ValueError(f"column {odd[0]!r} has no text for a name: rename it")
        _check_names(names)
        index = value.index
        if not self._is_rows(index):
            shown = ", ".join(str(name) for name in index.names if name is not None)
            raise ValueError(
                f"the index{f' ({shown})' if shown else ''} would be lost: make it a column with "
                "frame.reset_index(), or drop it with frame.reset_index(drop=True)"
            )
        if len(value) and not names:
            raise ValueError(f"the table has {len(value)} rows and no column")
        for name in names:
            self._check_column(name, value[name])
        return self._pa.Table.from_pandas(value, preserve_index=False)

    def _is_rows(self, index: Any) -> bool:
        """Whether an index is what is left of row numbers: nothing but integers without a name."""
        return index.nlevels == 1 and index.name is None and index.dtype.kind in "iu"

    def _check_column(self, name: str, column: Any) -> None:
        if isinstance(column.dtype, self._pd.PeriodDtype | self._pd.IntervalDtype):
            raise ValueError(
                f"column {name!r} is of {column.dtype}, which pandas alone knows: write "
                f"frame.astype({{{name!r}: str}})"
            )
        if column.dtype == object and (mixed := _mixed(column[column.notna()])):
            raise ValueError(f"column {name!r} has cells of {mixed}: convert them to one type")
        try:
            self._pa.Array.from_pandas(column)
        except (self._pa.ArrowException, OverflowError, TypeError) as error:
            raise ValueError(f"column {name!r} cannot be kept: {_first_line(error)}") from None


class PolarsType(TableType):
    """``polars.DataFrame``."""

    def __init__(self) -> None:
        super().__init__()
        import polars as pl

        self._pl = pl

    def is_value(self, value: object) -> bool:
        return isinstance(value, self._pl.DataFrame)

    def from_arrow(self, table: Any) -> Any:
        return self._pl.from_arrow(table)

    def to_arrow(self, value: Any) -> Any:
        try:
            return value.to_arrow()
        except self._pl.exceptions.PolarsError as error:
            raise ValueError(f"the table cannot be kept: {_first_line(error)}") from None


def _mixed(cells: Any) -> str:
    """The types of cells, where Arrow would make others of some; empty where all stay the same."""
    kinds = {type(cell) for cell in cells}
    if len(kinds) < 2 or all(issubclass(kind, int | float) and kind is not bool for kind in kinds):
        return ""
    return " and ".join(sorted(kind.__name__ for kind in kinds))


def _texts_of(file: Any) -> list[str]:
    """Paths of a Parquet file's columns of texts and bytes.

    They are read as references to what is written once, because a few bytes of a file can repeat a
    long text any number of times.
    """
    columns = [file.schema.column(at) for at in range(len(file.schema))]
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _check_names(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"there are two columns {name!r}: rename one")
        if "\0" in name:
            raise ValueError(f"column {name!r} has a NUL in its name: rename it")
        seen.add(name)


def _check_size(size: int) -> None:
    if size > _settings.max_mb * (1 << 20):
        raise ValueError(
            f"the table takes more than {_settings.max_mb:g} MiB of memory "
            "(plugins.table-values.max_mb)"
        )


def _plain(cell: Any, column: str) -> Any:
    """A cell as JSON has it: times as ISO text, what is missing as null."""
    if cell is None or isinstance(cell, str | bool | int):
        return cell
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, list):
        return [_plain(each, column) for each in cell]
    if isinstance(cell, dict):
        return {name: _plain(each, column) for name, each in cell.items()}
    if isinstance(cell, dt.datetime | dt.date | dt.time):
        return cell.isoformat()
    if isinstance(cell, dt.timedelta):
        return cell.total_seconds()
    if isinstance(cell, decimal.Decimal):
        return str(cell)
    if isinstance(cell, bytes):
        return base64.b64encode(cell).decode()
    raise ValueError(
        f"column {column!r} has cells that JSON has no form for: {type(cell).__name__}"
    )


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]
