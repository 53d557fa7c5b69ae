"""What a decorator takes, checked where it stands: ``@skipper.inference(batch=64, idle="10m")``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias, TypedDict

from skipper.cron import Missed, Overlap, check_cron, check_timezone
from skipper.errors import DefinitionError
from skipper.spec import BACKOFF_S, DEFAULT_POOL, LONGEST_S, PRIORITIES, FunctionSpec, Mode, seconds

ExceptionKinds: TypeAlias = type[BaseException] | str | tuple[type[BaseException] | str, ...]


class Options(TypedDict, total=False):
    """The options. Times are seconds, or ``"90s"``, ``"30m"``, ``"1h30m"``."""

    pool: str
    """Hardware class: the name of one of the project's pools."""
    mode: str
    """How a plain call is answered: ``direct`` or ``task``. Default: training is a task."""
    timeout: float | str
    """Of a direct call: from its receipt, 60 s by default. Of a task: per attempt, else none."""
    start_timeout: float | str
    """How long one of its processes may load. Default: the pool's ``load_timeout_s``."""
    retries: int
    """Further attempts of a task after the function failed, crashed or timed out."""
    retry_on: ExceptionKinds
    """The exceptions after which a task is tried again: classes or their names. Default: all."""
    backoff: float | str
    """The first pause between two attempts; each is twice as long, up to 5 minutes. Default 1 s."""
    expires: float | str
    """A task that nobody has started this long after it might start ends ``expired``."""
    priority: int
    """Which tasks start first: from -10 to 10, the higher the sooner. Default 0."""
    concurrency: int
    """At most this many of its tasks run at once, on all machines together. Default: any number."""
    concurrency_key: str
    """A parameter: ``concurrency`` then counts for each of its values by itself."""
    memory: int | str
    """Limit of one instance: MiB, or ``"2GB"``, ``"512MB"``."""
    threads: int
    """On how many threads its libraries compute. Default: its share of the cores."""
    max_input: int | str
    """Largest body that callers may send: MiB, or ``"200MB"``. Default: that of the settings."""
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
    validate_output: bool
    """Whether a value that is not what the hint says is an error. Default: it is told, once."""
    schedule: str
    """Run it as a task, without input, when this cron expression comes true: ``"0 3 * * *"``."""
    timezone: str
    """Whose clocks ``schedule`` is read on: ``"Europe/Vilnius"``. Default: UTC."""
    missed: str
    """What becomes of runs while no scheduler was up: ``once`` (default), ``skip`` or ``all``."""
    overlap: str
    """While the last run goes on: ``queue`` (default), ``skip``, ``cancel`` or ``allow``."""


def check(options: Options, file: str, line: int) -> None:
    """Raise DefinitionError for the first option that is wrong.

    ``file`` and ``line`` are where the options stand; the error has them.
    """
    for name, value in options.items():
        try:
            _check_known(name)
            _CHECKS[name](name, value)
        except DefinitionError as error:
            raise DefinitionError(str(error), file=file, line=line) from None
    # After each alone, because these compare values that are of the right type by now.
    least, most = options.get("min", 0), options.get("max")
    if most is not None and least > most:
        raise DefinitionError(f"min={least} is more than max={most}.", file=file, line=line)
    given: Mapping[str, object] = options
    for needed, what, dependents in _NEEDS:
        for name in dependents:
            if name in given and not given.get(needed):
                detail = f"{name} needs {needed}=…, {what}."
                raise DefinitionError(detail, file=file, line=line)


def check_mode(options: Options, mode: Mode) -> None:
    """Raise DefinitionError for the first option that can never count in this mode.

    A function whose plain calls are tasks has no other calls; one that is called directly may also
    be run as a task.
    """
    for name in _NOT_IN[mode]:
        if name in options:
            raise DefinitionError(_HINTS[mode].format(name=name))


def exceptions(kinds: ExceptionKinds) -> tuple[type[BaseException] | str, ...]:
    """What ``retry_on`` names, one by one."""
    return kinds if isinstance(kinds, tuple) else (kinds,)


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


def check_pool(spec: FunctionSpec, pools: Collection[str]) -> None:
    """Raise :class:`DefinitionError`, with file and line, unless the project has its pool.

    Apart from :func:`check`: a file may be imported where nobody knows which pools there are.
    """
    try:
        _one_of(*pools)("pool", spec.pool)
    except DefinitionError as error:
        raise DefinitionError(str(error), file=spec.file, line=spec.line) from None


def _one_of(*values: str) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if value not in values:
            raise DefinitionError(f"{name}={value!r}: write {' or '.join(map(repr, values))}.")

    return check


def _pool(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise DefinitionError(f"{name}={value!r}: write a pool's name, as {DEFAULT_POOL!r}.")


def _whole(least: int) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if type(value) is not int or value < least:  # not isinstance: True is an int
            raise DefinitionError(f"{name}={value!r}: write a whole number of at least {least}.")

    return check


def _flag(name: str, value: Any) -> None:
    if type(value) is not bool:
        raise DefinitionError(f"{name}={value!r}: write True or False.")


def _priority(name: str, value: Any) -> None:
    if type(value) is not int or value not in PRIORITIES:
        least, most = PRIORITIES[0], PRIORITIES[-1]
        raise DefinitionError(f"{name}={value!r}: write a whole number from {least} to {most}.")


def _exceptions(name: str, value: Any) -> None:
    kinds = exceptions(value)
    if not kinds or not all(map(_is_exception, kinds)):
        raise DefinitionError(
            f"{name}={value!r}: write an exception class, its name in quotes, or a tuple of them."
        )


def _is_exception(kind: object) -> bool:
    if isinstance(kind, str):
        return all(part.isidentifier() for part in kind.split("."))
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _time(name: str, value: Any) -> None:
    if not 0 < seconds(value) <= LONGEST_S:
        hint = "write a positive time of at most a year, such as 30 or '30m'."
        raise DefinitionError(f"{name}={value!r}: {hint}")


def _backoff(name: str, value: Any) -> None:
    _time(name, value)
    if seconds(value) > BACKOFF_S[1]:
        raise DefinitionError(f"{name}={value!r}: write at most '5m', the longest pause.")


def _timeout(name: str, value: Any) -> None:
    _time(name, value)
    if seconds(value) < 0.001:  # deadlines travel in whole milliseconds, and 0 means none
        raise DefinitionError(f"{name}={value!r}: write at least '1ms'.")


def _size(name: str, value: Any) -> None:
    if mebibytes(value) < 1:
        raise DefinitionError(f"{name}={value!r}: write a positive size, such as 512 or '2GB'.")


def _parameter(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise DefinitionError(f"{name}={value!r}: write a parameter's name in quotes.")


def _function(name: str, value: Any) -> None:
    if not callable(value) and not (isinstance(value, str) and value.isidentifier()):
        raise DefinitionError(f"{name}={value!r}: write the name of a function of this file.")


def _passes(check: Callable[[str], str]) -> Callable[[str, Any], None]:
    def checked(name: str, value: Any) -> None:
        try:
            check(value)
        except ValueError as error:
            raise DefinitionError(f"{name}={value!r}: {error}.") from None

    return checked


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "pool": _pool,
    "mode": _one_of(*(mode.value for mode in Mode)),
    "timeout": _timeout,
    "start_timeout": _time,
    "retries": _whole(0),
    "retry_on": _exceptions,
    "backoff": _backoff,
    "expires": _time,
    "priority": _priority,
    "concurrency": _whole(1),
    "concurrency_key": _parameter,
    "memory": _size,
    "max_input": _size,
    "threads": _whole(1),
    "min": _whole(0),
    "max": _whole(1),
    "idle": _time,
    "recycle": _whole(1),
    "batch": _whole(1),
    "batch_wait": _time,
    "batch_with": _function,
    "validate_output": _flag,
    "schedule": _passes(check_cron),
    "timezone": _passes(check_timezone),
    "missed": _one_of(*(missed.value for missed in Missed)),
    "overlap": _one_of(*(overlap.value for overlap in Overlap)),
}
_NEEDS = (
    ("batch", "the largest size", ("batch_wait", "batch_with")),
    ("concurrency", "how many tasks at once", ("concurrency_key",)),
    ("retries", "how many further attempts", ("retry_on", "backoff")),
    ("schedule", "a cron expression", ("timezone", "missed", "overlap")),
)
"""Options that mean nothing without another one."""
_NOT_IN: Mapping[Mode, tuple[str, ...]] = {
    Mode.TASK: ("min", "max", "recycle", "batch", "batch_wait", "batch_with"),
    Mode.DIRECT: ("concurrency", "concurrency_key"),
}
_HINTS = {
    Mode.TASK: (
        "{name}= counts for direct calls, and each call of this function is a task: leave it out, "
        "or write mode='direct'. How many tasks run at once is said by concurrency=."
    ),
    Mode.DIRECT: (
        "{name}= counts for tasks, and a plain call of this function is answered directly: write "
        "mode='task'. How many processes answer direct calls is said by max=."
    ),
}
