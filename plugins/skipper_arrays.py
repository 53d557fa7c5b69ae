"""Arrays: how ``numpy.ndarray`` crosses, as ``.npy``, as bytes with a header, as nested lists.

What comes is a view on the bytes that came, read-only and not copied, unless its numbers have to be
converted. NumPy is imported by whoever has it in a hint, and not by this plugin.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import skipper

NPY = "application/x-npy"
"""NumPy's own format (NEP 1): a header that says dtype and shape, then the numbers."""
RAW = "application/vnd.skipper.array"
"""For those without NumPy: a line of JSON, ``{"dtype": "float32", "shape": [3, 4]}``, then the
numbers, little-endian, the last dimension fastest."""
JSON = "application/json"
_KINDS = "biuf"
"""What NumPy calls booleans, integers of both kinds, and floats."""
_LARGEST = 8
"""Bytes of one number: longer floats differ from machine to machine."""
_MOST_DIMENSIONS = 32
_HEADER = 64 << 10
"""Bytes that the header of an array may have; NumPy's own are of 128."""
_ALIGNED = 64
_NAMES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
"""What a raw array may be of, by NumPy's names, which mean the same on every machine."""
_EMPTY = 1 << 16
"""How long an array without numbers may be along all its other dimensions together: nothing else
bounds it, and nested lists of it would have as many parts."""
_TEXTS = ("NaN", "Infinity", "-Infinity")
_EXACT = 2**53
"""From here on not every integer is a float64."""


@skipper.hook
def skipper_value_type(hint: Any, marks: tuple[Any, ...]) -> skipper.ValueType | None:
    """Arrays, of a class that is NumPy's only where somebody has imported it."""
    numpy = sys.modules.get("numpy")
    if numpy is None or hint is not numpy.ndarray:
        return None
    own = [mark for mark in marks if isinstance(mark, skipper.Array)]
    return ArrayType(own[-1] if own else skipper.Array())


class ArrayType(skipper.ValueType):
    """Arrays of one dtype and shape, as far as ``mark`` says.

    Raises ValueError for a dtype that is none, or whose numbers cannot cross.
    """

    name = "an array"
    reads = (NPY, RAW)
    writes = (JSON, NPY, RAW)
    native = NPY

    def __init__(self, mark: skipper.Array) -> None:
        import numpy as np

        self._np, self._mark = np, mark
        self._dtype = None if mark.dtype is None else _known(mark.dtype, np)
        self._shape = mark.shape
        is_float = self._dtype is not None and self._dtype.kind == "f" and self._dtype.itemsize < 8
        self._most_squared = float(np.finfo(self._dtype).max) ** 2 if is_float else 0.0

    def is_value(self, value: object) -> bool:
        return isinstance(value, self._np.ndarray)

    def schema(self) -> dict[str, Any]:
        kind = "f" if self._dtype is None else self._dtype.kind
        number: dict[str, Any] = {"type": {"b": "boolean", "f": "number"}.get(kind, "integer")}
        if kind == "f":
            number = {"anyOf": [number, {"type": "null"}]}  # which is how JSON says NaN
        if self._shape is None:
            return {"title": "Array", "anyOf": [{"type": "array", "items": {}}, number]}
        for length in reversed(self._shape):
            number = {"type": "array", "items": number}
            if length is not None:
                number |= {"minItems": length, "maxItems": length}
        return {"title": "Array"} | number

    # --- in

    def from_json(self, data: Any) -> Any:
        np = self._np
        if isinstance(data, dict):
            raise ValueError('nested lists of numbers are needed, or {"file": ID}')
        try:
            array = np.asarray(data)
            if array.dtype.kind not in _KINDS:  # there is a null among them, or "NaN", or a text
                array = self._with_texts(data)
            if array.dtype.kind == "f" and self._dtype is not None and self._dtype.kind in "iu":
                array = self._whole(data, array)
        except (ValueError, TypeError, OverflowError):
            raise ValueError(
                "these are no nested lists of numbers, each as long as its neighbours"
            ) from None
        return array

    def _with_texts(self, data: Any) -> Any:
        """Floats among which null and texts stand for those that JSON has not."""
        numbers = self._np.asarray(data, dtype=object)
        # Of other texts none is taken, because as floats long ones would become other numbers.
        if any(isinstance(each, str) and each not in _TEXTS for each in numbers.flat):
            raise ValueError
        return numbers.astype(self._np.float64)

    def _whole(self, data: Any, floats: Any) -> Any:
        """Integers among floats as they are, where floats would have changed them."""
        if not (self._np.abs(floats) >= _EXACT).any():
            return floats
        numbers = self._np.asarray(data, dtype=object)
        try:
            whole = numbers.astype(self._dtype)
        except (ValueError, TypeError, OverflowError):
            return floats  # which are refused for what is no integer, or too large
        return whole if (whole == numbers).all() else floats

    def read(self, content: skipper.Content) -> Any:
        view = content.view()
        return (self._npy if content.media_type == NPY else self._raw)(view)

    def _npy(self, view: memoryview) -> Any:
        head = io.BytesIO(view[: _HEADER + 16])
        format_ = self._np.lib.format
        try:
            version = format_.read_magic(head)
            read = {
                (1, 0): format_.read_array_header_1_0,
                (2, 0): format_.read_array_header_2_0,
            }.get(version)
            if read is None:
                raise ValueError(f"it is of version {version[0]}.{version[1]}")
            shape, is_fortran, dtype = read(head, max_header_size=_HEADER)
        except Exception as error:  # noqa: BLE001 - the next lines say why
            # Because NumPy parses the header, a caller's text, as Python and raises what comes.
            raise ValueError(f"these are no bytes of .npy: {str(error)[:200]}") from None
        return self._view(view, head.tell(), dtype, shape, "F" if is_fortran else "C")

    def _raw(self, view: memoryview) -> Any:
        line, newline, _ = bytes(view[:_HEADER]).partition(b"\n")
        try:
            header = json.loads(line)
            name, shape = str(header["dtype"]), tuple(header["shape"])
        except (ValueError, TypeError, KeyError, RecursionError):
            newline = b""
        if not newline:
            raise ValueError('the first line is no header as {"dtype": "float32", "shape": [3]}')
        if name not in _NAMES:  # and not what else NumPy makes of a text
            raise ValueError(f"the dtype {name[:40]!r} is none of {', '.join(_NAMES)}")
        dtype = self._np.dtype(name).newbyteorder("<")
        return self._view(view, len(line) + 1, dtype, shape, "C")

    def _view(
        self, view: memoryview, start: int, dtype: Any, shape: Sequence[Any], order: Any
    ) -> Any:
        """The array that these bytes are, if they are just as many as it needs."""
        if dtype.hasobject or dtype.kind not in _KINDS or dtype.itemsize > _LARGEST:
            raise ValueError(f"arrays of {dtype} are not taken: booleans, integers and floats are")
        if len(shape) > _MOST_DIMENSIONS or not all(
            type(length) is int and 0 <= length < 1 << 62 for length in shape
        ):
            raise ValueError(f"{str(shape)[:200]} is no shape")
        count = math.prod(shape)  # of Python's integers, which do not overflow
        if count * dtype.itemsize != len(view) - start:
            raise ValueError(
                f"the header promises {count} times {dtype}, and {len(view) - start} bytes follow"
            )
        if not count:
            if math.prod(length for length in shape if length) > _EMPTY:
                raise ValueError(f"{str(shape)[:200]} is no shape for an array without numbers")
            return self._np.empty(shape, dtype.newbyteorder("="))
        array = self._np.frombuffer(view, dtype, count, start).reshape(shape, order=order)
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))

    def accepted(self, value: Any) -> Any:
        self._check_shape(value.shape)
        if self._dtype is None or value.dtype == self._dtype:
            return value
        return self._converted(value, self._dtype)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        wanted = self._shape
        if wanted is None or wanted == shape:
            return
        if len(wanted) == len(shape) and all(
            w in (None, s) for w, s in zip(wanted, shape, strict=True)
        ):
            return
        shown = ", ".join("any" if length is None else str(length) for length in wanted)
        raise ValueError(f"its shape is {list(shape)}, and [{shown}] is wanted")

    def _converted(self, value: Any, dtype: Any) -> Any:
        """``value`` in another dtype; floats are rounded, and nothing else is changed."""
        np = self._np
        if not value.size or self._is_within(value, dtype):
            return value.astype(dtype)
        if value.dtype.kind not in _KINDS or (value.dtype.kind == "b") is not (dtype.kind == "b"):
            raise ValueError(f"{value.dtype} cannot be {dtype}")
        with np.errstate(all="ignore"):
            made = value.astype(dtype)
            if dtype.kind == "f":
                is_same = np.isfinite(made) | ~np.isfinite(value)
            else:
                is_same = made.astype(value.dtype) == value
                if value.dtype.kind == "f":  # beyond what the integers hold, casts give anything
                    limits = np.iinfo(dtype)
                    is_same &= (value >= float(limits.min)) & (value < float(limits.max) + 1.0)
                elif dtype.kind != value.dtype.kind:
                    is_same &= (made < 0) == (value < 0)
        if not is_same.all():
            odd = value[~is_same].flat[0]
            raise ValueError(f"{odd} cannot be {dtype} without being changed")
        return made

    def _is_within(self, value: Any, dtype: Any) -> bool:
        """Whether these are floats that all are some in ``dtype``, as far as a quick look tells.

        By the sum of their squares, since for the few numbers of one caller all else takes longer
        than everything that is done for them.
        """
        if value.dtype.kind != "f" or dtype.kind != "f":
            return False
        if dtype.itemsize >= value.dtype.itemsize:
            return True
        return bool(self._np.vdot(value, value) < self._most_squared)

    # --- out

    def to_json(self, value: Any) -> Any:
        self._check_kind(value)
        return value.tolist()

    def write(self, value: Any, media_type: str) -> skipper.Written:
        self._check_kind(value)
        array = self._np.asarray(value, dtype=value.dtype.newbyteorder("<"))
        is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        if media_type == RAW or not is_fortran:
            array, is_fortran = self._np.ascontiguousarray(array).reshape(array.shape), False
        head = self._npy_head(array, is_fortran) if media_type == NPY else _raw_head(array)
        flat = (array.T if is_fortran else array).reshape(-1).view(self._np.uint8)
        return skipper.Written(media_type=media_type, buffers=(head, flat.data))

    def _npy_head(self, array: Any, is_fortran: bool) -> bytes:
        head = io.BytesIO()
        format_ = self._np.lib.format
        described = format_.dtype_to_descr(array.dtype)
        described = {"descr": described, "fortran_order": is_fortran, "shape": array.shape}
        format_.write_array_header_1_0(head, described)
        return head.getvalue()

    def _check_kind(self, value: Any) -> None:
        if value.dtype.kind not in _KINDS or value.dtype.itemsize > _LARGEST:
            raise TypeError(
                f"an array of {value.dtype} cannot be sent: booleans, integers and floats of up to "
                "64 bits can"
            )
        if isinstance(value, self._np.ma.MaskedArray):
            raise TypeError("a masked array cannot be sent: fill it first, with .filled(…)")

    # --- batches

    def item(self) -> Any:
        if self._shape is None:
            return Annotated[self._np.ndarray, skipper.Array(self._mark.dtype)]
        if not self._shape:
            raise ValueError("a batch has a dimension more than its items: shape () has none")
        return Annotated[self._np.ndarray, skipper.Array(self._mark.dtype, self._shape[1:])]

    def stacked(self, items: Sequence[Any]) -> Any:
        return self._np.stack(items)

    def stacked_json(self, items: Sequence[Any]) -> Any:
        """All lists in one go, where they are of numbers that need no second look."""
        try:
            array = self._np.asarray(items)
            if not self._is_plain(items, array):
                return None
            self._check_shape(array.shape)
            return array if self._dtype is None else self._converted(array, self._dtype)
        except (ValueError, TypeError, OverflowError):
            return None  # whose it is shows when each is read by itself

    def _is_plain(self, items: Sequence[Any], array: Any) -> bool:
        """Whether each of these would have become the same by itself.

        So they are integers and floats, and no integer has become another number as a float.
        """
        if array.dtype not in (self._np.int64, self._np.float64):
            return False
        numbers: Iterable[Any] = items
        for _ in range(array.ndim - 1):
            numbers = itertools.chain.from_iterable(numbers)
        kinds = set(map(type, numbers))
        if not kinds <= {int, float}:
            return False
        if array.dtype.kind == "f" and int in kinds and not (abs(array) < _EXACT).all():
            return False
        is_whole = self._dtype is not None and self._dtype.kind in "iu"
        return not (is_whole and array.dtype.kind == "f")

    def split(self, value: Any, count: int) -> Sequence[Any]:
        array = self._np.asarray(value)
        if not array.ndim or len(array) != count:
            raise ValueError(
                f"a batch of {count} items was answered with an array of shape {list(array.shape)}"
            )
        # Arrays of no dimension too, because an item that is a plain number is none of an array's.
        return [array[at, ...] for at in range(count)]


def _known(name: str, np: Any) -> Any:
    try:
        dtype: Any = np.dtype(name)
    except TypeError:
        raise ValueError(f"skipper.Array: NumPy knows no dtype {name!r}") from None
    if dtype.kind not in _KINDS or dtype.itemsize > _LARGEST:
        raise ValueError(
            f"skipper.Array: arrays of {name} do not cross: booleans, integers and floats do"
        )
    return dtype


def _raw_head(array: Any) -> bytes:
    """The header, padded so that the numbers that follow lie where processors like them."""
    head = json.dumps({"dtype": array.dtype.name, "shape": list(array.shape)}).encode()
    return head + b" " * (-(len(head) + 1) % _ALIGNED) + b"\n"
