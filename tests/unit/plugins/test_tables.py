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
        (pd.DataFrame({"a": [1, "x"]}), "column 'a' cannot be kept"),
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
    st.sampled_from([ARROW, PARQUET, CSV]),
    st.integers(0, 1500),
    st.binary(min_size=1, max_size=8),
)
def test_whatever_comes_is_a_table_or_a_value_error(media_type: str, at: int, junk: bytes) -> None:
    good = {ARROW: stream(TABLE), PARQUET: parquet(TABLE), CSV: b"a,b\n1,x\n2,y\n"}[media_type]
    data = good[:at] + junk + good[at + len(junk) :]
    try:
        found = ArrowType().read(content(data, media_type))
    except ValueError:
        return
    assert found.nbytes < 1 << 20
