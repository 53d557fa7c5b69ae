"""Arrays come back as they were sent, by every way; what lies about itself is refused unread."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

import skipper
from skipper.errors import DefinitionError
from skipper.function.signature import signature_of
from skipper.values.crossing import Adapter
from skipper.values.envelope import Part
from skipper.values.opening import NO_PLACES, OpenParts, PartContent
from skipper_arrays import NPY, RAW, ArrayType

DTYPES = [*"?bhiqBHIQefd"]
ANY = ArrayType(skipper.Array())


def content(data: bytes, media_type: str) -> skipper.Content:
    part = Part(media_type=media_type, size=len(data), data=data)
    return PartContent(part, OpenParts([part], NO_PLACES))


def npy(array: Any, **more: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **more)
    return stream.getvalue()


def written(array: Any, media_type: str) -> bytes:
    return b"".join(bytes(each) for each in ANY.write(array, media_type).buffers)


arrays = st.sampled_from(DTYPES).flatmap(
    lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)


@pytest.mark.parametrize("media_type", [NPY, RAW])
@settings(max_examples=60, deadline=None)
@given(array=arrays, order=st.sampled_from("CF"))
def test_an_array_is_read_as_it_was_written(media_type: str, array: Any, order: Any) -> None:
    array = np.asarray(array, order=order)
    data = written(array, media_type)
    found = ANY.read(content(data, media_type))
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    if media_type == NPY:
        np.testing.assert_array_equal(np.load(io.BytesIO(data)), array)
        again = ANY.read(content(npy(array), NPY))
        np.testing.assert_array_equal(again, array)


@settings(max_examples=60, deadline=None)
@given(array=arrays)
def test_json_has_the_same_numbers(array: Any) -> None:
    adapter = Adapter(Annotated[np.ndarray, skipper.Array(array.dtype.name)])
    text = adapter.serializer.to_json(array)
    found = adapter.validator.validate_json(text)
    assert found.dtype == array.dtype
    # NaN and infinities are null in JSON, and NaN again.
    wanted = array if array.dtype.kind != "f" else np.where(np.isfinite(array), array, np.nan)
    np.testing.assert_array_equal(found, wanted.reshape(found.shape))


def test_what_comes_is_a_view_that_cannot_be_changed() -> None:
    data = npy(np.arange(6.0).reshape(2, 3))
    found = ANY.read(content(data, NPY))
    assert not found.flags.owndata
    assert not found.flags.writeable


@pytest.mark.parametrize("dtype", [">f4", ">i2", ">u8"])
def test_big_endian_numbers_become_the_machines_own(dtype: str) -> None:
    array = np.arange(5).astype(dtype)
    found = ANY.read(content(npy(array), NPY))
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(ANY.read(content(written(array, NPY), NPY)), array)


def header(described: str) -> bytes:
    text = described.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(np.array([{}], dtype=object), allow_pickle=True), "arrays of object are not taken"),
        (npy(np.zeros(2, "complex64")), "arrays of complex64"),
        (npy(np.array(["a"])), "arrays of <U1"),
        (npy(np.array(["2020-01-01"], "M8[D]")), "arrays of datetime64"),
        (npy(np.zeros(2, [("a", "i4")])), "are not taken"),
        (npy(np.zeros(2, "longdouble")), "are not taken"),
        (npy(np.zeros(2))[:-1], "promises 2 times float64, and 15 bytes follow"),
        (npy(np.zeros(2)) + b"x", "and 17 bytes follow"),
        (header("{'descr':'<f4','fortran_order':False,'shape':(1000000000000,)}"), "promises"),
        (header("{'descr':'<f4','fortran_order':False,'shape':(-1,)}"), "is no shape"),
        (header("{'descr':'|O','fortran_order':False,'shape':(1,)}"), "object are not taken"),
        (header("{'descr':'<f4','fortran_order':False,'shape':" + str((1,) * 40) + "}"), "shape"),
        (header("__import__('os').system('true')"), r"no bytes of \.npy"),
        (header("{'descr':'<f4'}"), r"no bytes of \.npy"),
        (header("(" * 5000), r"no bytes of \.npy"),
        (b"\x93NUMPY\x03\x00\x04\x00\x00\x00{}  ", "version 3"),
        (b"PK\x03\x04", r"no bytes of \.npy"),
        (b"", r"no bytes of \.npy"),
    ],
)
def test_what_is_no_array_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ANY.read(content(data, NPY))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no json\n",
        b'{"dtype": "float32"}\n',
        b'{"dtype": "float32", "shape": 3}\n',
        b'{"dtype": "object", "shape": [1]}\n12345678',
        b'{"dtype": "float32", "shape": [1.5]}\n1234',
        b'{"dtype": "float32", "shape": [true]}\n1234',
        b'{"dtype": "float32", "shape": [2]}\n1234',
        b'{"dtype": "f4", "shape": [1]}' + b" " * 70_000 + b"\n1234",
        b'{"dtype": "f4,f4", "shape": [1]}\n12345678',
        b'{"dtype": "f4,(2", "shape": [1]}\n12345678',
        b'{"dtype": ">f4", "shape": [1]}\n1234',
        b'{"dtype": "int", "shape": [1]}\n12345678',
        b'{"dtype": "' + b"1" * 5000 + b'f4", "shape": [1]}\n1234',
    ],
)
def test_a_raw_array_without_a_sound_header_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|shape|promises|is none of bool, int8"):
        ANY.read(content(data, RAW))


@pytest.mark.parametrize("shape", [(10**12, 0), (0, 10**12), (300, 300, 0), (0, 2**61)])
def test_an_array_without_numbers_is_no_way_to_ask_for_endless_lists(shape: Any) -> None:
    described = f"{{'descr':'<f4','fortran_order':False,'shape':{shape}}}"
    raw = json.dumps({"dtype": "float32", "shape": shape}).encode() + b"\n"
    for data, media_type in ((header(described), NPY), (raw, RAW)):
        with pytest.raises(ValueError, match="is no shape for an array without numbers"):
            ANY.read(content(data, media_type))


@pytest.mark.parametrize("media_type", [NPY, RAW])
def test_a_masked_array_is_not_sent_without_its_mask(media_type: str) -> None:
    masked = np.ma.array([1, 2], mask=[False, True])
    with pytest.raises(TypeError, match="fill it first"):
        ANY.write(masked, media_type)
    with pytest.raises(TypeError, match="fill it first"):
        ANY.to_json(masked)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.integers(0, 200), st.binary(max_size=8)).map(
            lambda cut: npy(np.arange(6.0))[: cut[0]] + cut[1] + npy(np.arange(6.0))[cut[0] :]
        ),
        st.text(max_size=100).map(header),
        st.tuples(
            st.one_of(st.sampled_from(["<f4", ">i2", "|O", "V8", "f4,(2"]), st.text(max_size=9)),
            st.booleans(),
            st.lists(st.integers(-1, 2**70), max_size=4).map(tuple),
        ).map(lambda h: header(str({"descr": h[0], "fortran_order": h[1], "shape": h[2]}))),
        st.tuples(
            st.one_of(st.sampled_from(["float32", "f4,(2", "bool"]), st.text(max_size=9)),
            st.lists(st.one_of(st.integers(-1, 2**70), st.floats(), st.text()), max_size=4),
            st.binary(max_size=16),
        ).map(lambda h: json.dumps({"dtype": h[0], "shape": h[1]}).encode() + b"\n" + h[2]),
    ),
    st.sampled_from([NPY, RAW]),
)
def test_whatever_comes_is_an_array_or_a_value_error(data: bytes, media_type: str) -> None:
    try:
        found = ANY.read(content(data, media_type))
    except ValueError:
        return
    assert found.nbytes <= len(data)
    assert found.size or math.prod(max(1, length) for length in found.shape) <= 1 << 16


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=4)
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=2)
        ),
        max_leaves=12,
    ),
    st.sampled_from([None, "bool", "int8", "int64", "uint64", "float16", "float32", "float64"]),
)
def test_whatever_json_comes_is_an_array_of_its_numbers_or_a_value_error(
    data: Any, dtype: str | None
) -> None:
    found = ArrayType(skipper.Array(dtype))
    try:
        array = found.accepted(found.from_json(data))
    except ValueError:
        return
    assert dtype is None or array.dtype == dtype
    if array.dtype.kind in "iu":
        assert [int(n) for n in np.asarray(data, dtype=object).flat] == [int(n) for n in array.flat]


# --- hints ---------------------------------------------------------------------------------------


def validated(text: str, *mark: Any) -> Any:
    return Adapter(Annotated[np.ndarray, skipper.Array(*mark)]).validator.validate_json(text)


@pytest.mark.parametrize(
    ("mark", "text", "dtype", "value"),
    [
        (("float32",), "[1, 2]", "float32", [1, 2]),
        (("float32",), "[0.1]", "float32", [np.float32(0.1)]),
        (("float32",), '[1, null, "NaN", "-Infinity"]', "float32", [1, np.nan, np.nan, -np.inf]),
        (("int8",), "[1.0, -3]", "int8", [1, -3]),
        (("uint64",), "[18446744073709551615]", "uint64", [2**64 - 1]),
        (("int64",), "[9007199254740993, 1.0]", "int64", [2**53 + 1, 1]),
        (("uint64",), "[18446744073709551615, 2.0]", "uint64", [2**64 - 1, 2]),
        (("float16",), "[65504, -65504.0]", "float16", [65504, -65504]),
        (("float32",), "[3e38, 3e38]", "float32", [3e38, 3e38]),
        (("bool",), "[true, false]", "bool", [True, False]),
        ((), "[[1, 2], [3, 4]]", "int64", [[1, 2], [3, 4]]),
        ((), "3.5", "float64", 3.5),
        (("int32", (None, 2)), "[[1, 2]]", "int32", [[1, 2]]),
        (("float64", (0,)), "[]", "float64", []),
    ],
)
def test_numbers_are_converted_to_what_the_hint_says(
    mark: Any, text: str, dtype: str, value: Any
) -> None:
    found = validated(text, *mark)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.array(value, dtype))


@pytest.mark.parametrize(
    ("mark", "text", "message"),
    [
        (("int32",), "[0.5]", "0.5 cannot be int32 without being changed"),
        (("int8",), "[128]", "128 cannot be int8"),
        (("uint8",), "[-1]", "-1 cannot be uint8"),
        (("int32",), "[null]", "nan cannot be int32"),
        (("int64",), "[1e300]", r"1e\+300 cannot be int64"),
        (("uint64",), "[-1]", "-1 cannot be uint64"),
        (("uint64",), "[-1, 18446744073709551615]", "cannot be uint64"),
        (("int64",), "[9007199254740993, 0.5]", "0.5 cannot be int64"),
        (("float32",), "[1, 1e39]", r"1e\+39 cannot be float32"),
        (("float16",), "[1e6]", "1000000.0 cannot be float16"),
        (("float32",), "[true]", "bool cannot be float32"),
        (("bool",), "[1]", "int64 cannot be bool"),
        ((), "[[1, 2], [3]]", "no nested lists of numbers"),
        ((), '["a"]', "no nested lists of numbers"),
        (("int64",), '["9007199254740993"]', "no nested lists of numbers"),
        (("int8",), '"0."', "no nested lists of numbers"),
        (("float64",), "[null, [1]]", "no nested lists of numbers"),
        (("int64",), "[null, 9007199254740993]", "nan cannot be int64"),
        ((), '{"a": 1}', "nested lists of numbers are needed"),
        ((None, (None, 13)), "[[1, 2]]", r"its shape is \[1, 2\], and \[any, 13\] is wanted"),
        ((None, (2,)), "5", r"its shape is \[\], and \[2\] is wanted"),
    ],
)
def test_what_would_be_changed_is_refused(mark: Any, text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        validated(text, *mark)


@pytest.mark.parametrize("dtype", ["complex64", "object", "nonsense", "M8[s]", "U3"])
def test_a_hint_that_nothing_can_cross_by_is_told(dtype: str) -> None:
    with pytest.raises(DefinitionError, match=r"skipper\.Array"):
        Adapter(Annotated[np.ndarray, skipper.Array(dtype)])


def test_a_mark_beside_another_class_is_told() -> None:
    with pytest.raises(DefinitionError, match="put it beside the type itself"):
        Adapter(Annotated[list[np.ndarray], skipper.Array("float32")])


def test_the_schema_says_what_is_taken() -> None:
    schema = Adapter(Annotated[np.ndarray, skipper.Array("int8", (None, 2))]).json_schema()
    (own, reference) = schema["anyOf"]
    assert own == {
        "title": "Array",
        "type": "array",
        "items": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
    }
    assert reference["required"] == ["file"]


# --- batches -------------------------------------------------------------------------------------


def rows(x: Annotated[np.ndarray, skipper.Array("float32", (None, 3))]) -> np.ndarray:
    return x


def plain(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    return [*x]


def lists(x: list[np.ndarray]) -> list[float]:
    return [float(each.sum()) for each in x]


@pytest.mark.parametrize(
    ("function", "body", "value"),
    [
        (rows, '{"x":[1,2,3]}', [1, 2, 3]),
        (plain, '{"x":[1],"y":2}', [1]),
        (lists, '{"x":[4]}', [4]),
    ],
)
def test_a_caller_of_a_batch_sends_one_item(
    function: Callable[..., Any], body: str, value: Any
) -> None:
    signature = signature_of(function, batched=True)
    assert signature.parse(body.encode())["x"].tolist() == value


def test_items_are_put_together_once_and_taken_apart_once() -> None:
    signature = signature_of(rows, batched=True)
    items = [signature.parse(json.dumps({"x": [n, n, n]}).encode())["x"] for n in range(4)]
    whole = signature.stacks["x"].stacked(items)
    assert (whole.shape, whole.dtype) == ((4, 3), np.float32)
    assert signature.splits is not None
    apart = signature.splits.split(whole * 2, 4)
    assert [each.tolist() for each in apart] == [[2 * n] * 3 for n in range(4)]
    assert [each.shape for each in signature.splits.split(np.arange(2), 2)] == [(), ()]
    for wrong in (np.zeros(3), np.float64(1)):
        with pytest.raises(ValueError, match="a batch of 4 items was answered with an array"):
            signature.splits.split(wrong, 4)


def test_a_wrong_item_is_refused_before_its_batch() -> None:
    with pytest.raises(ValidationError, match=r"its shape is \[2\], and \[3\] is wanted"):
        signature_of(rows, batched=True).parse(b'{"x":[1,2]}')


def test_a_batch_of_no_dimension_is_told() -> None:
    def none(x: Annotated[np.ndarray, skipper.Array(None, ())]) -> None: ...

    with pytest.raises(DefinitionError, match="a batch has a dimension more"):
        signature_of(none, batched=True)


def test_sizes_are_reckoned_without_overflow() -> None:
    assert math.prod((1 << 40, 1 << 40)) > 1 << 64
    data = header("{'descr':'<f4','fortran_order':False,'shape':(1099511627776,1099511627776)}")
    with pytest.raises(ValueError, match="promises"):
        ANY.read(content(data, NPY))


NUMBERS = st.one_of(
    st.integers(-5, 5),
    st.integers(2**52, 2**66),
    st.floats(width=32),
    st.floats(),
    st.booleans(),
    st.none(),
    st.sampled_from(["NaN", "Infinity", "x"]),
)
ROWS = st.one_of(
    st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=4),
    st.lists(st.lists(st.one_of(st.floats(-9, 9), st.integers(-9, 9)), max_size=4), min_size=1),
    st.lists(NUMBERS, min_size=1, max_size=4),
    st.lists(st.dictionaries(st.just("file"), st.just("file-0")), min_size=1, max_size=2),
)


@pytest.mark.parametrize("dtype", [None, "float16", "float32", "float64", "int8", "int64", "bool"])
@pytest.mark.parametrize("shape", [None, (None, 3), (None, None), (None,)])
@settings(max_examples=100, deadline=None)
@given(items=ROWS)
def test_what_is_read_together_is_what_each_would_have_been(
    dtype: Any, shape: Any, items: list[Any]
) -> None:
    whole = ArrayType(skipper.Array(dtype, shape))
    found = whole.stacked_json(items)
    if found is None:
        return
    one = ArrayType(skipper.Array(dtype, None if shape is None else shape[1:]))
    each = whole.stacked([one.accepted(one.from_json(item)) for item in items])
    assert (found.dtype, found.shape) == (each.dtype, each.shape)
    assert found.tobytes() == each.tobytes()


@pytest.mark.parametrize("items", [[[0, 1.5], [2, 3]], [[1.5, 2.5]], [[1, 2], [3, 4]]])
def test_plain_numbers_are_read_together(items: list[Any]) -> None:
    found = ArrayType(skipper.Array("float32", (None, 2))).stacked_json(items)
    assert found.tolist() == [[float(n) for n in item] for item in items]
