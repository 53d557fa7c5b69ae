"""Nothing of a returned value is dropped in silence, and what is missing is null."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skipper.function.signature import signature_of


def f() -> Any: ...


def dumped(value: Any) -> Any:
    return json.loads(signature_of(f).dump(value))


DAYS = ["2026-01-02T03:04:05", None]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_date_is_iso_text_and_a_missing_one_null_whatever_its_unit(unit: str) -> None:
    array = np.array(["2026-01-02T03:04:05", "NaT"], f"datetime64[{unit}]")
    series = pd.Series(array)
    for value in (array, list(array), series, {"at": array}["at"], np.array([array])[0]):
        first, second = dumped(value)
        assert first.startswith(DAYS[0])
        assert second is None
    assert dumped(pd.DataFrame({"at": series}))[1] == {"at": None}


def test_a_day_is_a_day() -> None:
    assert dumped(np.datetime64("2026-01-02")) == "2026-01-02"
    assert dumped(np.array([["2026-01-02", "NaT"]], "datetime64[D]")) == [["2026-01-02", None]]


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_a_duration_is_iso_text_whatever_its_unit(unit: str) -> None:
    array = np.array([86_400], "timedelta64[s]").astype(f"timedelta64[{unit}]")
    assert dumped(array) == dumped(pd.Series(array)) == ["P1D"]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
        pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
        pa.table({"a": [1, 2], "b": ["x", None]}),
    ],
)
def test_a_frame_is_its_records_wherever_it_stands(frame: Any) -> None:
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert dumped(frame) == rows
    assert dumped({"inner": [frame]}) == {"inner": [rows]}


def test_what_is_missing_is_null_whatever_pandas_calls_it() -> None:
    series = pd.Series([1, pd.NA], dtype="Int64")
    assert dumped(series) == dumped(series.array) == [1, None]
    assert dumped([pd.NA]) == [None]
    assert dumped(pd.Series([1.5, None])) == [1.5, None]
    assert dumped(pd.Categorical(["x", None])) == ["x", None]


def test_a_series_keeps_its_index() -> None:
    assert dumped(pd.Series([1, 2], index=["a", "b"])) == {"a": 1, "b": 2}
    assert dumped(pd.Series([3, 1, 2]).sort_values()) == [1, 2, 3]
    assert dumped(pd.Index(["a", "b"])) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns 'a'"),
        (pd.DataFrame({1: [2]}), "column 1 has no text for a name"),
        (pd.DataFrame({"a": [1]}, index=["row"]), "index of the frame would be lost"),
        (pd.Series([1, 2], index=["a", "a"]), "index of the series would be lost"),
        (pd.Series([1], index=[1.5]), "index of the series would be lost"),
        (np.array([1j]), "complex numbers are not JSON"),
        (pd.Interval(0, 1), "Interval is not JSON"),
    ],
)
def test_what_would_be_lost_is_refused(value: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        dumped(value)


def test_a_range_is_a_list() -> None:
    assert dumped(range(3)) == [0, 1, 2]
    assert dumped({"r": range(0)}) == {"r": []}


def test_a_period_is_its_text() -> None:
    assert dumped(pd.Period("2026-01")) == "2026-01"
