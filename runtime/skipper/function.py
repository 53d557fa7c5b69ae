"""The three decorators, and the function object they make, which is also its client.

``f(…)`` runs here. ``f.remote(…)`` runs in the runtime and waits, ``f.spawn(…)`` returns a task,
``f.map([…])`` fans out. Whom to ask is handed in (:func:`connect_to`): an instance hands in its own
host, ``skipper.connect(url)`` a client over HTTP.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, cast, overload

from skipper.contract import Contract, contract_of
from skipper.errors import DefinitionError, NotConnectedError
from skipper.run import Run
from skipper.spec import DEFAULT_POOL, FunctionSpec, Kind, Mode

P = ParamSpec("P")
R = TypeVar("R")

POOLS = ("cpu", "gpu")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Options(TypedDict, total=False):
    """What a decorator takes."""

    pool: str
    """Hardware class: ``cpu`` (default) or ``gpu``."""
    timeout: float | str
    """Seconds, or ``"90s"``, ``"30m"``, ``"1h30m"``. Of a task: per attempt. Default: 60 s for a direct call, none for a task."""
    retries: int
    """Further attempts after the function failed, crashed or timed out, as a task."""
    mode: str
    """How a plain call is answered: ``direct`` or ``task``. Default: training is a task."""
    memory: int | str
    """Limit of one instance: MiB, or ``"2GB"``, ``"512MB"``."""
    instances: int
    """At most this many processes serve direct calls of this function. Default: the pool's slots."""
    idle: float | str
    """An instance without a call for this long is stopped. Default 5 minutes."""


class Handle(Protocol):
    """A task somewhere else."""

    @property
    def id(self) -> str: ...

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the value; raises CallError for a task that failed, TimeoutError after ``timeout`` seconds."""
        ...


class Caller(Protocol):
    """Whoever can have functions run: a client, or an instance's host. Bodies are JSON."""

    def call(self, name: str, body: bytes) -> Any: ...

    def spawn(self, name: str, body: bytes) -> Handle: ...

    async def call_async(self, name: str, body: bytes) -> Any: ...


_caller: Caller | None = None


def connect_to(caller: Caller | None) -> None:
    """Hand in whom this process's functions ask."""
    global _caller  # noqa: PLW0603 - one runtime per process, set once at its start
    _caller = caller


def _connected() -> Caller:
    if _caller is None:
        raise NotConnectedError
    return _caller


class Function(Generic[P, R]):
    """A function of the project: callable here, and a client of itself elsewhere."""

    def __init__(self, target: Callable[P, R], kind: Kind, options: Options) -> None:
        functools.update_wrapper(self, target, updated=())
        self.target = target
        self.kind = kind
        self.options = options
        self.file = inspect.getsourcefile(cast(Any, target)) or "<unknown>"
        self.line = _line_of(target)
        _check_options(options, self.file, self.line)
        self.name = f"{_stem(target.__module__, self.file)}.{target.__name__}"

    @functools.cached_property
    def contract(self) -> Contract:
        """The signature as JSON. Raises :class:`DefinitionError`, with file and line."""
        try:
            return contract_of(self.target)
        except DefinitionError as error:
            raise DefinitionError(f"{self.name}: {error}", file=self.file, line=self.line) from None

    @functools.cached_property
    def callable(self) -> Callable[..., Any]:
        """What to call: the function, or the one object of a class, whose ``__init__`` is its set-up."""
        return self.target() if inspect.isclass(self.target) else self.target

    def spec(self, code: str) -> FunctionSpec:
        """What this function declares, as data; ``code`` is the hash of its file."""
        contract, options = self.contract, self.options
        default = Mode.TASK if self.kind is Kind.TRAINING else Mode.DIRECT
        doc = inspect.getdoc(self.target) or ""
        timeout, memory, idle = options.get("timeout"), options.get("memory"), options.get("idle")
        return FunctionSpec(
            name=self.name,
            kind=self.kind,
            pool=options.get("pool", DEFAULT_POOL),
            mode=Mode(options.get("mode", default)),
            timeout_s=None if timeout is None else seconds(timeout),
            retries=options.get("retries", 0),
            max_instances=options.get("instances"),
            idle_s=None if idle is None else seconds(idle),
            memory_mb=None if memory is None else mebibytes(memory),
            summary=doc.partition("\n")[0],
            description=doc,
            streams=contract.streams,
            is_async=contract.is_async,
            models=tuple(dict.fromkeys(contract.loaded_parameters.values())),
            file=self.file,
            line=self.line,
            code=code,
            input_schema=contract.input_schema(),
            output_schema=contract.output_schema(),
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, in this process."""
        for name in self.contract.run_parameters:
            kwargs.setdefault(name, Run())
        return cast(R, self.callable(*args, **kwargs))

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run in the runtime, wherever it runs, and wait for the value (as plain JSON data).

        Raises :class:`~skipper.errors.CallError` where the call ends without one.
        """
        return cast(R, _connected().call(self.name, self.contract.body(args, kwargs)))

    async def aremote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """:meth:`remote` for ``async def`` functions."""
        return cast(R, await _connected().call_async(self.name, self.contract.body(args, kwargs)))

    def spawn(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Start it as a task and return at once."""
        return _connected().spawn(self.name, self.contract.body(args, kwargs))

    def map(self, items: Iterable[Any]) -> list[R]:
        """Run once per item, as tasks side by side; the values in the items' order."""
        contract = self.contract
        handles = [_connected().spawn(self.name, contract.body((item,), {})) for item in items]
        return [cast(R, handle.result()) for handle in handles]

    def __repr__(self) -> str:
        return f"<skipper {self.kind} function {self.name}>"


@overload
def data(target: Callable[P, R], /) -> Function[P, R]: ...
@overload
def data(**options: Unpack[Options]) -> Callable[[Callable[P, R]], Function[P, R]]: ...
def data(target: Any = None, /, **options: Unpack[Options]) -> Any:
    """Make a data preparation function: a plain call is answered directly."""
    return _decorate(Kind.DATA, target, options)


@overload
def training(target: Callable[P, R], /) -> Function[P, R]: ...
@overload
def training(**options: Unpack[Options]) -> Callable[[Callable[P, R]], Function[P, R]]: ...
def training(target: Any = None, /, **options: Unpack[Options]) -> Any:
    """Make a training function: a plain call is answered with a task."""
    return _decorate(Kind.TRAINING, target, options)


@overload
def inference(target: Callable[P, R], /) -> Function[P, R]: ...
@overload
def inference(**options: Unpack[Options]) -> Callable[[Callable[P, R]], Function[P, R]]: ...
def inference(target: Any = None, /, **options: Unpack[Options]) -> Any:
    """Make an inference function: a plain call is answered directly."""
    return _decorate(Kind.INFERENCE, target, options)


_defined: dict[str, list[Function[..., Any]]] = {}


def defined_in(module: str) -> list[Function[..., Any]]:
    """The functions that a module has defined so far, in order. Raises DefinitionError for a name defined twice."""
    first: dict[str, Function[..., Any]] = {}
    for function in _defined.get(module, []):
        if (earlier := first.setdefault(function.name, function)) is not function:
            raise DefinitionError(
                f"{function.name} is defined twice, on lines {earlier.line} and {function.line}; rename one.",
                file=function.file,
                line=function.line,
            )
    return list(first.values())


def _decorate(kind: Kind, target: Any, options: Options) -> Any:
    if target is None:
        return lambda target: _decorate(kind, target, options)
    if not callable(target):
        raise DefinitionError(
            f"@skipper.{kind} stands before a function or a class, not before {target!r}."
        )
    function = Function(target, kind, options)
    _defined.setdefault(target.__module__, []).append(function)
    return function


def _stem(module: str, file: str) -> str:
    """``functions.boston`` → ``boston``."""
    return Path(file).stem if module == "__main__" else module.rpartition(".")[2]


def _line_of(target: Any) -> int:
    code = getattr(inspect.unwrap(target), "__code__", None)
    if code is not None:
        return int(code.co_firstlineno)
    try:
        return inspect.getsourcelines(target)[1]
    except (OSError, TypeError):
        return 1


def _check_options(options: Options, file: str, line: int) -> None:
    for name, value in options.items():
        try:
            _check_option(name, value)
        except DefinitionError as error:
            raise DefinitionError(str(error), file=file, line=line) from None


def _check_option(name: str, value: Any) -> None:
    known = list(Options.__annotations__)
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."
        raise DefinitionError(f"unknown option {name!r}; {hint}")
    if name == "pool" and value not in POOLS:
        raise DefinitionError(f"pool={value!r}: write one of {', '.join(map(repr, POOLS))}.")
    if name == "mode" and value not in list(Mode):
        raise DefinitionError(f"mode={value!r}: write 'direct' or 'task'.")
    if name in ("timeout", "idle") and seconds(value) <= 0:
        raise DefinitionError(f"{name}={value!r}: write a positive time, such as 30 or '30m'.")
    if name == "memory" and mebibytes(value) < 1:
        raise DefinitionError(f"memory={value!r}: write a positive size, such as 512 or '2GB'.")
    if name in ("retries", "instances") and (
        type(value) is not int or value < (name == "instances")
    ):
        raise DefinitionError(
            f"{name}={value!r}: write a whole number{' of at least 1' if name == 'instances' else ''}."
        )


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
