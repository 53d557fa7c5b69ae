"""What a run may report of the values that a function has: figures, and short texts. Pure.

Whatever reports, a callback of a library perhaps, is handed arrays, tensors, None and text beside
numbers. What cannot be shown is None here, with why: it must not end hours of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import to_json

MOST = 4096
"""Bytes of JSON that one value may have."""
_PLAIN = (bool, float)


class Shown(NamedTuple):
    """A value as it is reported, or why it is not."""

    value: Any
    problem: str = ""


def figure(value: Any) -> Shown:
    """``value`` as a number: also text that is one, and an array or a tensor of one element."""
    try:
        return Shown(float(_single(value)))
    except Exception as error:  # noqa: BLE001 - its class may be anybody's, and so what it raises
        return Shown(None, f"{_named(value)} is no number ({type(error).__name__})")


def shown(value: Any) -> Shown:
    """``value`` as JSON has it: numbers, short texts, and lists and dicts of them.

    An array or a tensor of one element is that number; one of more is left out, as is what has more
    than 4,096 bytes of JSON. Anything else is its text.
    """
    if value is None or isinstance(value, _PLAIN):
        return Shown(value)
    try:
        if _is_array(value):
            return Shown(_single(value))
        size = len(to_json(value, fallback=str, inf_nan_mode="null"))
    except Exception as error:  # noqa: BLE001 - as above
        return Shown(None, f"{_named(value)} cannot be shown ({type(error).__name__})")
    if size > MOST:
        return Shown(None, f"{_named(value)} is {size} bytes of JSON; {MOST} are shown")
    return Shown(value)


def shown_all(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What can be shown of ``values``, and why the others cannot, by their names."""
    found = {name: shown(value) for name, value in values.items()}
    good = {name: each.value for name, each in found.items() if not each.problem}
    return good, {name: each.problem for name, each in found.items() if each.problem}


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and (hasattr(value, "item") or hasattr(value, "numpy"))


def _single(value: Any) -> Any:
    """The one number of an array or a tensor; whatever else as it is."""
    if not _is_array(value):
        return value
    if not hasattr(value, "item"):  # TensorFlow's
        value = value.numpy()
    return value.item()  # raises where there is not exactly one


def _named(value: Any) -> str:
    kind = type(value)
    shape = getattr(value, "shape", None)
    sized = f" of shape {tuple(shape)}" if isinstance(shape, tuple) else ""
    return f"a {kind.__name__[:100]}{sized}"
