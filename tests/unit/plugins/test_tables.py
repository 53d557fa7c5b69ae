"""Tables cross by way of Arrow: nothing is dropped in silence, and what lies is refused unread."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import skipper
import skipper_tables
from skipper.values.crossing import Adapter
from skipper.values.envelope import Part
from skipper.values.opening import NO_PLACES, OpenParts, PartContent
from skipper_tables import ARROW, CSV, PARQUET, ArrowType, PandasType, PolarsType

NOON = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - a column without a zone
KINDS: dict[str, Any] = {
    "pandas": (PandasType, pd.DataFrame),
    "polars": (PolarsType, pl.DataFrame),
    "arrow": (ArrowType, pa.Table),
}
TABLE = pa.table(
    {
        "name": ["a", "b", None],
        "x": [0.1, 2.5, -3.0],
        "n": [1, 2, 3],
        "at": pa.array([NOON] * 3, pa.timestamp("us")),
        "flag": [True, False, None],
    }
)


def content(data: Any, media_type: str) -> skipper.Content:
    part = Part(media_type=media_type, size=len(data), data=bytes(data))
    return PartContent(part, OpenParts([part], NO_PLACES))


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, **options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def written(kind: Any, value: Any, media_type: str) -> bytes:
    return b"".join(bytes(each) for each in kind.write(value, media_type).buffers)


@pytest.fixture(autouse=True)
def usual_settings() -> Iterator[None]:
    yield
    skipper_tables.skipper_settings("f", {})


@pytest.mark.parametrize("library", KINDS)
@pytest.mark.parametrize("media_type", [ARROW, PARQUET])
def test_a_table_comes_back_as_it_was_sent(library: str, media_type: str) -> None:
    kind = KINDS[library][0]()
    data = stream(TABLE) if media_type == ARROW else parquet(TABLE)
    value = kind.read(content(data, media_type))
    assert kind.is_value(value)
    again = kind.read(content(written(kind, value, media_type), media_type))
    assert kind.to_arrow(again).to_pylist() == kind.to_arrow(value).to_pylist()
    assert kind.to_arrow(value).drop(["flag"]).to_pylist() == TABLE.drop(["flag"]).to_pylist()


@pytest.mark.parametrize("library", KINDS)
def test_csv_is_read_and_written(library: str) -> None:
    kind = KINDS[library][0]()
    value = kind.read(content(b"name,x,n\na,0.5,1\n,-3,2\n", CSV))
    assert kind.to_arrow(value).to_pylist() == [
        {"name": "a", "x": 0.5, "n": 1},
        {"name": "", "x": -3.0, "n": 2},
    ]
    assert written(kind, value, CSV) == b'"name","x","n"\n"a",0.5,1\n"",-3,2\n'


@pytest.mark.parametrize("library", KINDS)
def test_json_is_a_list_of_rows(library: str) -> None:
    adapter = Adapter(KINDS[library][1])
    rows = '[{"a":1,"b":"x","c":null},{"a":2,"b":null,"c":0.5}]'
    assert adapter.serializer.to_json(adapter.validator.validate_json(rows)).decode() == rows


@pytest.mark.parametrize("library", KINDS)
def test_columns_that_some_rows_leave_out_are_null_there(library: str) -> None:
    adapter = Adapter(KINDS[library][1])
    value = adapter.validator.validate_json('[{"a":"x"},{"b":"y"}]')
    assert json.loads(adapter.serializer.to_json(value)) == [
        {"a": "x", "b": None},
        {"a": None, "b": "y"},
    ]


def test_what_json_has_no_form_for_is_text_or_null() -> None:
    table = pa.table(
        {
            "at": [NOON],
            "zoned": pa.array([dt.datetime(2026, 1, 2, tzinfo=dt.UTC)], pa.timestamp("ns", "UTC")),
            "day": [dt.date(2026, 1, 2)],
            "price": [decimal.Decimal("1.50")],
            "raw": [b"\xff"],
            "nan": [float("nan")],
            "many": [[1.5, float("inf")]],
            "inner": [{"a": dt.date(2026, 1, 2)}],
        }
    )
    (row,) = ArrowType().to_json(table)
    assert row == {
        "at": "2026-01-02T03:04:05",
        "zoned": "2026-01-02T00:00:00+00:00",
        "day": "2026-01-02",
        "price": "1.50",
        "raw": "/w==",
        "nan": None,
        "many": [1.5, None],
        "inner": {"a": "2026-01-02"},
    }


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_date_is_iso_text_whatever_its_unit(unit: str) -> None:
    frame = pd.DataFrame({"at": pd.to_datetime(["2026-01-02", None]).astype(f"datetime64[{unit}]")})
    first, second = PandasType().to_json(frame)
    assert first["at"].startswith("2026-01-02T00:00:00")
    assert second["at"] is None


def test_what_is_missing_is_null_whatever_pandas_calls_it() -> None:
    frame = pd.DataFrame(
        {
            "a": pd.array([1, pd.NA], "Int64"),
            "b": [pd.Timestamp("2026-01-02"), pd.NaT],
            "c": ["x", None],
            "d": pd.Categorical(["u", None]),
        }
    )
    assert PandasType().to_json(frame)[1] == dict.fromkeys("abcd")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns 'a'"),
        (pd.DataFrame({1: [2]}), "column 1 has no text for a name"),
        (pd.DataFrame({"a": [1]}, index=["row"]), r"the index would be lost: .*reset_index\(\)"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([5], name="id")), r"the index \(id\) would be"),
        (pd.DataFrame({"a": [1], "b": [2]}).set_index(["a", "b"]), r"the index \(a, b\)"),
        (pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(2, name="id")), r"the index \(id\)"),
        (pd.DataFrame({"a": [1, "x"]}), "column 'a' has cells of int and str"),
        (pd.DataFrame({"a": [b"x", "x"]}), "column 'a' has cells of bytes and str"),
        (pd.DataFrame({"a": [True, 1]}, dtype=object), "column 'a' has cells of bool and int"),
        (
            pd.DataFrame({"a": [NOON, NOON.date()]}, dtype=object),
            "column 'a' has cells of date and datetime",
        ),
        (pd.DataFrame({"a": pd.period_range("2026", periods=1, freq="Y")}), "'a' is of period"),
        (pd.DataFrame({"a": pd.interval_range(0, 1)}), "column 'a' is of interval"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), "column 'a' cannot be kept"),
        (pd.DataFrame(index=range(3)), "3 rows and no column"),
        (pd.DataFrame({"a": [object()]}), "column 'a' cannot be kept"),
        (pd.DataFrame({"a": [1 + 2j]}), "column 'a' cannot be kept"),
    ],
)
def test_what_pandas_has_and_arrow_has_not_is_refused(frame: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PandasType().write(frame, ARROW)


def test_what_is_left_of_row_numbers_is_no_index() -> None:
    frame = pd.DataFrame({"a": [1, 2, 3]})
    assert PandasType().to_json(frame[frame.a > 1]) == [{"a": 2}, {"a": 3}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "a list of objects is needed"),
        ("[1]", "a list of objects is needed"),
        ('[{"a":1},{"a":"x"}]', "column 'a' has cells of more than one type"),
        ('[{"a":99999999999999999999999}]', "column 'a' has cells"),
    ],
)
def test_json_that_is_no_table_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Adapter(pa.Table).validator.validate_json(text)


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.uint16(), pa.int64(), pa.uint64()])
def test_integers_stay_integers_where_some_are_missing(kind: pa.DataType) -> None:
    wanted = [1, None, 2 ** (kind.bit_width - 1) - 1]
    frame = PandasType().read(content(stream(pa.table({"n": pa.array(wanted, kind)})), ARROW))
    assert PandasType().to_json(frame) == [{"n": each} for each in wanted]


def test_a_cell_that_json_cannot_hold_is_told() -> None:
    table = pa.table({"at": pa.array([2**31 - 1], pa.date32())})
    with pytest.raises(ValueError, match="column 'at' is no JSON"):
        ArrowType().to_json(table)


@pytest.mark.parametrize("library", KINDS)
@pytest.mark.parametrize(
    ("names", "message"), [(["a", "a"], "two columns 'a'"), (["\0a", "b"], "has a NUL in its name")]
)
def test_names_of_columns_that_cannot_be_are_refused(
    library: str, names: list[str], message: str
) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=names)
    with pytest.raises(ValueError, match=message):
        KINDS[library][0]().read(content(stream(table), ARROW))


def test_what_polars_panics_of_is_a_value_error() -> None:
    table = pa.table({"a": pa.StructArray.from_arrays([pa.array([1])], ["bbbb"])})
    data = stream(table).replace(b"bbbb", b"\xff\xffbb")
    with pytest.raises(ValueError, match="these bytes are not"):
        PolarsType().read(content(data, ARROW))


def test_the_type_of_a_column_of_csv_is_that_of_all_its_cells() -> None:
    text = b"x\n" + b"1\n" * 1_000_000 + b"0.5\n"
    assert ArrowType().read(content(text, CSV)).schema.types == [pa.float64()]


LONG = "x" * 100_000


def views(count: int) -> Any:
    """A column of as many views on one text."""
    one = (len(LONG)).to_bytes(4, "little") + b"xxxx" + bytes(8)
    buffers = [None, pa.py_buffer(one * count), pa.py_buffer(LONG.encode())]
    return pa.Array.from_buffers(pa.string_view(), count, buffers)


def references(count: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), [LONG])


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (stream(pa.table({"a": pa.nulls(2_000_000)})), ARROW),
        (stream(pa.table({"a": views(100)})), ARROW),
        (stream(pa.table({"a": references(100)})), ARROW),
        (stream(pa.table({"a": pa.ListArray.from_arrays([0, 100], references(100))})), ARROW),
        (stream(pa.table({"a": pa.StructArray.from_arrays([views(100)], ["b"])})), ARROW),
        (parquet(pa.table({"a": [LONG] * 100})), PARQUET),
        (parquet(pa.table({"a": [[LONG] * 100]})), PARQUET),
        (parquet(pa.table({"a": pa.nulls(2_000_000)})), PARQUET),
    ],
)
@pytest.mark.parametrize("library", KINDS)
def test_what_repeats_itself_counts_as_written_out(
    library: str, data: bytes, media_type: str
) -> None:
    skipper_tables.skipper_settings("f", {"max_mb": 8})
    with pytest.raises(ValueError, match="more than 8 MiB of memory"):
        KINDS[library][0]().read(content(data, media_type))


@pytest.mark.parametrize(
    "column",
    [
        pa.RunEndEncodedArray.from_arrays(pa.array([1 << 30], pa.int32()), pa.array(["x"])),
        pa.ListViewArray.from_arrays([0, 0], [2, 2], pa.array([1, 2])),
    ],
)
def test_types_that_repeat_themselves_in_other_ways_do_not_cross(column: Any) -> None:
    with pytest.raises(ValueError, match=r"column 'a' is of .*, which does not cross"):
        ArrowType().read(content(stream(pa.table({"a": column})), ARROW))


def test_rows_without_a_column_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows and no column"):
        ArrowType().read(content(stream(pa.table({"a": [1, 2, 3]}).select([])), ARROW))


LARGE = pa.table({"x": pa.array([0] * 2_000_000, pa.int64())})


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (stream(LARGE, options=pa.ipc.IpcWriteOptions(compression="zstd")), ARROW),
        (stream(LARGE, options=pa.ipc.IpcWriteOptions(compression="lz4")), ARROW),
        (stream(LARGE), ARROW),
        (parquet(LARGE, compression="zstd", use_dictionary=False), PARQUET),
        (parquet(LARGE), PARQUET),
        (b"x\n" + b"0\n" * 2_000_000, CSV),
    ],
)
def test_a_table_that_unpacks_to_more_than_is_taken_is_refused(
    data: bytes, media_type: str
) -> None:
    skipper_tables.skipper_settings("f", {"max_mb": 4})
    with pytest.raises(ValueError, match="more than 4 MiB of memory"):
        ArrowType().read(content(data, media_type))


def test_a_buffer_that_lies_about_its_size_is_refused_before_it_is_unpacked() -> None:
    data = bytearray(stream(LARGE, options=pa.ipc.IpcWriteOptions(compression="zstd")))
    size = (16_000_000).to_bytes(8, "little")
    at = data.index(size)
    data[at : at + 8] = (1 << 50).to_bytes(8, "little")
    with pytest.raises(ValueError, match="more than 2048 MiB of memory"):
        ArrowType().read(content(bytes(data), ARROW))


@pytest.mark.parametrize("media_type", [ARROW, PARQUET])
@pytest.mark.parametrize("data", [b"", b"x", b"PAR1" * 9, b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 3])
def test_what_is_no_table_is_refused(media_type: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=f"these bytes are not {media_type}|ends too early"):
        ArrowType().read(content(data, media_type))


@pytest.mark.parametrize("data", [b"", b"a,b\n1\n", b"a\n\xff\xfe\n", b"\x00\x01\n\xff,\n"])
def test_what_is_no_csv_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"these bytes are not text/csv|is not text in UTF-8"):
        ArrowType().read(content(data, CSV))


def test_a_formula_is_text() -> None:
    table = ArrowType().read(content(b'a\n=1+1\n"=cmd()"\n', CSV))
    assert table.to_pylist() == [{"a": "=1+1"}, {"a": "=cmd()"}]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*KINDS]),
    st.sampled_from([ARROW, PARQUET, CSV]),
    st.integers(0, 1500),
    st.binary(min_size=1, max_size=8),
)
def test_whatever_comes_is_a_table_or_a_value_error(
    library: str, media_type: str, at: int, junk: bytes
) -> None:
    kind = KINDS[library][0]()
    good = {ARROW: stream(TABLE), PARQUET: parquet(TABLE), CSV: b"a,b\n1,x\n2,y\n"}[media_type]
    data = good[:at] + junk + good[at + len(junk) :]
    try:
        found = kind.read(content(data, media_type))
        kind.to_json(found)
    except ValueError:
        return
    assert kind.is_value(found)
