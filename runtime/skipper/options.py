"""What a decorator takes, checked where it stands: ``@skipper.inference(batch=64, idle="10m")``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from typing import Any, TypedDict

from skipper.errors import DefinitionError
from skipper.spec import Mode

POOLS = ("cpu", "gpu")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Options(TypedDict, total=False):
    """The options. Times are seconds, or ``"90s"``, ``"30m"``, ``"1h30m"``."""

    pool: str
    """Hardware class: ``cpu`` (default) or ``gpu``."""
    mode: str
    """How a plain call is answered: ``direct`` or ``task``. Default: training is a task."""
    timeout: float | str
    """Of a direct call: from its receipt, 60 s by default. Of a task: per attempt, else none."""
    retries: int
    """Further attempts of a task after the function failed, crashed or timed out."""
    memory: int | str
    """Limit of one instance: MiB, or ``"2GB"``, ``"512MB"``."""
    min: int
    """Instances that are kept ready for direct calls. Default 0."""
    max: int
    """At most this many instances serve direct calls. Default: the pool's slots."""
    idle: float | str
    """An instance without a call for this long is stopped. Default 5 minutes."""
    recycle: int
    """An instance is replaced after this many direct calls. Default: never."""
    batch: int
    """Up to this many direct calls run as one: every parameter is the list of what callers send."""
    batch_wait: float | str
    """How long a batch that is not full waits for more. Default: not at all."""
    batch_with: str | Callable[..., Any]
    """This file's function that takes the lists, where the decorated one takes single items."""


def check(options: Options, file: str, line: int) -> None:
    """Raise :class:`DefinitionError`, with file and line, for the first option that is wrong."""
    for name, value in options.items():
        try:
            _check_known(name)
            _CHECKS[name](name, value)
        except DefinitionError as error:
            raise DefinitionError(str(error), file=file, line=line) from None
    least, most = options.get("min", 0), options.get("max")
    if most is not None and least > most:
        raise DefinitionError(f"min={least} is more than max={most}.", file=file, line=line)
    if "batch" not in options:
        for name in ("batch_wait", "batch_with"):
            if name in options:
                detail = f"{name} needs batch=…, the largest size."
                raise DefinitionError(detail, file=file, line=line)


def seconds(text: float | str) -> float:
    """``90``, ``"90s"``, ``"30m"`` or ``"1h30m"`` in seconds. Raises :class:`DefinitionError`."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text).replace(" ", ""):
        raise DefinitionError(f"{text!r} is not a time; write seconds, or '90s', '30m', '1h30m'.")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def mebibytes(size: int | str) -> int:
    """``512`` (MiB), ``"512MB"`` or ``"2GB"`` in MiB. Raises :class:`DefinitionError`."""
    if isinstance(size, int) and not isinstance(size, bool):
        return size
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG])i?B", str(size))
    if not match:
        raise DefinitionError(f"{size!r} is not a size; write MiB as a number, or '512MB', '2GB'.")
    return int(float(match[1]) * (1024 if match[2] == "G" else 1))


def _check_known(name: str) -> None:
    if name not in _CHECKS:
        close = difflib.get_close_matches(name, _CHECKS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(_CHECKS)}."
        raise DefinitionError(f"unknown option {name!r}; {hint}")


def _one_of(*values: str) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if value not in values:
            raise DefinitionError(f"{name}={value!r}: write {' or '.join(map(repr, values))}.")

    return check


def _whole(least: int) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if type(value) is not int or value < least:
            raise DefinitionError(f"{name}={value!r}: write a whole number of at least {least}.")

    return check


def _time(name: str, value: Any) -> None:
    if not 0 < seconds(value) < math.inf:
        raise DefinitionError(f"{name}={value!r}: write a positive time, such as 30 or '30m'.")


def _timeout(name: str, value: Any) -> None:
    _time(name, value)
    if seconds(value) < 0.001:  # deadlines travel in whole milliseconds, and 0 means none
        raise DefinitionError(f"{name}={value!r}: write at least '1ms'.")


def _size(name: str, value: Any) -> None:
    if mebibytes(value) < 1:
        raise DefinitionError(f"{name}={value!r}: write a positive size, such as 512 or '2GB'.")


def _function(name: str, value: Any) -> None:
    if not callable(value) and not (isinstance(value, str) and value.isidentifier()):
        raise DefinitionError(f"{name}={value!r}: write the name of a function of this file.")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "pool": _one_of(*POOLS),
    "mode": _one_of(*(mode.value for mode in Mode)),
    "timeout": _timeout,
    "retries": _whole(0),
    "memory": _size,
    "min": _whole(0),
    "max": _whole(1),
    "idle": _time,
    "recycle": _whole(1),
    "batch": _whole(1),
    "batch_wait": _time,
    "batch_with": _function,
}
