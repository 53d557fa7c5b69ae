"""The three decorators, and the function object they make, which is also its client.

``f(…)`` runs here. ``f.remote(…)`` runs in the runtime and waits, ``f.spawn(…)`` returns a task,
``f.map([…])`` fans out. Who carries those out is handed in (:func:`connect_to`): an instance hands
in its own host, ``skipper.connect(url)`` a client over HTTP.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from skipper.cron import Missed, Overlap, Timetable
from skipper.errors import DefinitionError, NotConnectedError
from skipper.function import mapping
from skipper.function.mistakes import tell
from skipper.function.named import REQUIRED
from skipper.function.options import Options, check, check_mode, exceptions, mebibytes
from skipper.function.run import Run
from skipper.function.signature import Signature, signature_of
from skipper.function.targets import function_below, remembers
from skipper.spec import BACKOFF_S, DEFAULT_POOL, FunctionSpec, Kind, Mode, seconds
from skipper.values.opening import Places

P = ParamSpec("P")
R = TypeVar("R")


class SpawnedCall(Protocol):
    """A task somewhere else."""

    @property
    def id(self) -> str:
        """The task's id."""
        ...

    def result(self, timeout: float | None = None) -> bytes:
        """Wait for the value's body.

        Raises CallError for a task that failed, TimeoutError after ``timeout`` seconds.
        """
        ...


class Caller(Protocol):
    """Whoever can have functions run: a client, or an instance's host.

    Bodies, of inputs and of values, are JSON or envelopes, whose large parts lie in ``places``.
    Each method raises a SkipperError where the function cannot be run or ends without a value.
    """

    @property
    def places(self) -> Places:
        """Where the parts of bodies lie."""
        ...

    def call(self, name: str, body: bytes) -> bytes:
        """Run the function ``name`` and wait for its value's body."""
        ...

    def spawn(self, name: str, body: bytes, *, detach: bool = False) -> SpawnedCall:
        """Start it as a task, without waiting for its end.

        Where a task starts it, it is cancelled with that one, unless ``detach``.
        """
        ...

    async def call_async(self, name: str, body: bytes) -> bytes:
        """:meth:`call`, awaited."""
        ...


class Handle(Generic[R]):
    """A task that a function was started as."""

    def __init__(self, spawned: SpawnedCall, load: Callable[[bytes], R]) -> None:
        self._spawned, self._load = spawned, load

    @property
    def id(self) -> str:
        """The task's id."""
        return self._spawned.id

    def result(self, timeout: float | None = None) -> R:
        """Wait for the value, which is of the type that the function says.

        Raises CallError for a task that failed, TimeoutError after ``timeout`` seconds.
        """
        return self._load(self._spawned.result(timeout))


_caller: Caller | None = None


def connect_to(caller: Caller | None) -> None:
    """Have this process's functions call others through ``caller``; None: not at all."""
    global _caller  # noqa: PLW0603 - one runtime per process, set once at its start
    _caller = caller


def _connected() -> Caller:
    if _caller is None:
        raise NotConnectedError
    return _caller


class Function(Generic[P, R]):
    """A function of the project: callable here, and a client of itself elsewhere."""

    def __init__(self, target: Callable[P, R], kind: Kind, options: Options) -> None:
        written = function_below(target)
        # Without its attributes, because one of them could hide one of this object's.
        functools.update_wrapper(self, written, updated=())
        self.target = target
        self.kind = kind
        self.options = options
        self.file = _file_of(written)
        self.line = _line_of(written)
        check(options, self.file, self.line)
        self.name = _full_name(written)

    # Not in __init__, because a type hint may name what the file defines further down.
    @functools.cached_property
    def signature(self) -> Signature:
        """What one caller sends and gets, as JSON. Raises DefinitionError, with file and line."""
        is_batched = "batch" in self.options and self.batch_target is None
        return self._signature_of(self.target, batched=is_batched)

    @functools.cached_property
    def batch_target(self) -> Callable[..., Any] | None:
        """The function that takes the lists of a batch, where it is another one.

        Raises DefinitionError where the file defines none of that name.
        """
        named = self.options.get("batch_with")
        if not isinstance(named, str):
            return named
        target = getattr(sys.modules[self.__module__], named, None)
        if not callable(target):
            raise self._error(
                f"{self.name}: batch_with={named!r}: the file defines no such function."
            )
        return cast(Callable[..., Any], target)

    @functools.cached_property
    def batch_signature(self) -> Signature:
        """The signature of what takes the lists of a batch. Raises DefinitionError."""
        if self.batch_target is None:
            return self.signature
        single, lists = self.signature, self._signature_of(self.batch_target, batched=True)
        if single.is_async or single.streams or single.run_parameters:
            raise self._error(
                f"{self.name}: batch_with=… needs a plain function: no async def, no generator, "
                "no Run."
            )
        if set(lists.names) != set(single.names):
            raise self._error(
                f"{self.name}: {self.batch_target.__name__} takes {_listed(lists.names)} where it "
                f"must take lists of {_listed(single.names)}: use the same names."
            )
        return lists

    def _signature_of(self, target: Callable[..., Any], *, batched: bool) -> Signature:
        try:
            return signature_of(target, batched=batched)
        except DefinitionError as error:
            raise self._error(f"{self.name}: {error}") from None

    def _error(self, message: str) -> DefinitionError:
        """An error that names the function's place."""
        return DefinitionError(message, file=self.file, line=self.line)

    @functools.cached_property
    def callable(self) -> Callable[..., Any]:
        """What to call: the function, or the one object of a class, made at the first call."""
        return cast(Any, self.target)() if inspect.isclass(self.target) else self.target

    def spec(self, code: str) -> FunctionSpec:
        """What this function declares, as data; ``code`` is the hash of its file.

        Raises DefinitionError, with file and line, for what cannot be served.
        """
        signature, options = self.signature, self.options
        models = [*signature.loaded_parameters.values()]
        by_call = [mark.name for mark in signature.by_call_parameters.values()]
        if "batch" in options:
            models += self.batch_signature.loaded_parameters.values()
            by_call += [each.name for each in self.batch_signature.by_call_parameters.values()]
        default = Mode.TASK if self.kind is Kind.TRAINING else Mode.DIRECT
        mode = Mode(options.get("mode", default))
        try:
            check_mode(options, mode)
        except DefinitionError as error:
            raise self._error(f"{self.name}: {error}") from None
        if signature.returns_model and mode is Mode.DIRECT:
            raise self._error(
                f"{self.name} returns a model, which only a task publishes: write mode='task'."
            )
        if "schedule" in options and signature.needs_input:
            raise self._error(
                f"{self.name} needs input, and its schedule has none: give every parameter a "
                "default, or write a [schedules] table with a body in skipper.toml."
            )
        doc = inspect.getdoc(function_below(self.target)) or ""
        return FunctionSpec(
            name=self.name,
            kind=self.kind,
            pool=options.get("pool", DEFAULT_POOL),
            mode=mode,
            timeout_s=_seconds(options.get("timeout")),
            start_timeout_s=_seconds(options.get("start_timeout")),
            retries=options.get("retries", 0),
            retry_on=tuple(map(_name_of, exceptions(options.get("retry_on", ())))),
            backoff_s=_seconds(options.get("backoff")) or BACKOFF_S[0],
            expires_s=_seconds(options.get("expires")),
            priority=options.get("priority", 0),
            concurrency=options.get("concurrency"),
            concurrency_key=self._concurrency_key(),
            memory_mb=mebibytes(options.get("memory", 0)),
            threads=options.get("threads"),
            min_instances=options.get("min", 0),
            max_instances=options.get("max"),
            idle_s=_seconds(options.get("idle")),
            recycle=options.get("recycle"),
            batch=options.get("batch", 1),
            batch_wait_s=_seconds(options.get("batch_wait")) or 0.0,
            schedule=_timetable(options),
            summary=doc.partition("\n")[0],
            description=doc,
            streams=signature.streams,
            is_async=signature.is_async,
            models=tuple(dict.fromkeys(models)),
            models_by_call=tuple(dict.fromkeys(by_call)),
            file=self.file,
            line=self.line,
            code=code,
            takes={name: each.reads for name, each in signature.takes.items()},
            takes_many=signature.takes_many,
            has_values=signature.input.has_value_types,
            max_input=mebibytes(options.get("max_input", 0)) << 20 or None,
            gives=signature.gives.writes if signature.gives else (),
            input_schema=signature.input_schema(),
            output_schema=signature.output_schema(),
        )

    def _concurrency_key(self) -> str:
        """The member of the body by which its tasks are bounded. Raises DefinitionError."""
        key = self.options.get("concurrency_key", "")
        members = self.signature.input_schema().get("properties", {})
        if key and key not in members:
            raise self._error(
                f"{self.name}: concurrency_key={key!r}: the body has no such member; it has "
                f"{_listed(members)}."
            )
        return key

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, in this process."""
        for name in self.signature.run_parameters:
            kwargs.setdefault(name, Run())
        for name, mark in self.signature.by_call_parameters.items():
            if mark.default is not REQUIRED:
                kwargs.setdefault(name, mark.default)
        return cast(R, self.callable(*args, **kwargs))

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run in the runtime, wherever it runs, and wait for the value.

        It is of the type that the function says; plain data where the function returned another, a
        list of the items of a generator, and name, version and metrics of a model. Raises
        NotConnectedError in a process without a runtime to ask, TypeError for arguments that are
        not the function's, CallError where the call ends without a value, NotFoundError or
        UnavailableError where it cannot be run.
        """
        caller = _connected()
        return self._loaded(caller, caller.call(self.name, self._body(caller, args, kwargs)))

    async def aremote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """:meth:`remote`, awaited."""
        caller = _connected()
        body = self._body(caller, args, kwargs)
        return self._loaded(caller, await caller.call_async(self.name, body))

    def spawn(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start it as a task and return at once. Raises as :meth:`remote` does before the run."""
        return self._spawned(self._body(_connected(), args, kwargs))

    def spawn_detached(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """:meth:`spawn`, for a task that goes on where the one that starts it is cancelled."""
        return self._spawned(self._body(_connected(), args, kwargs), detach=True)

    def _spawned(self, body: bytes, *, detach: bool = False) -> Handle[R]:
        caller = _connected()
        spawned = caller.spawn(self.name, body, detach=detach)
        return Handle(spawned, functools.partial(self._loaded, caller))

    @overload
    def map(
        self, *iterables: Iterable[Any], return_exceptions: Literal[False] = False
    ) -> list[R]: ...
    @overload
    def map(self, *iterables: Iterable[Any], return_exceptions: bool) -> list[R | Exception]: ...
    def map(self, *iterables: Iterable[Any], return_exceptions: bool = False) -> list[Any]:
        """Run once per item, as tasks side by side; the values in the items' order.

        Several iterables have an argument each; a dict from one alone has them by name, where the
        function takes several. At most 64 are under way, and no more is taken from the iterables.
        Raises the error of the first item, in that order, whose task ends without a value; its
        ``item`` is the item's index. With ``return_exceptions`` errors stand among the values.
        """
        return self._gathered(mapping.of_items(self.signature.names, iterables), return_exceptions)

    @overload
    def starmap(
        self, tuples: Iterable[Iterable[Any]], *, return_exceptions: Literal[False] = False
    ) -> list[R]: ...
    @overload
    def starmap(
        self, tuples: Iterable[Iterable[Any]], *, return_exceptions: bool
    ) -> list[R | Exception]: ...
    def starmap(
        self, tuples: Iterable[Iterable[Any]], *, return_exceptions: bool = False
    ) -> list[Any]:
        """:meth:`map`, with a tuple of arguments per item."""
        return self._gathered(mapping.of_tuples(tuples), return_exceptions)

    def _gathered(self, calls: Iterator[mapping.Arguments], keeps_errors: bool) -> list[Any]:
        def start(call: mapping.Arguments) -> Callable[[], R]:
            spawn = cast(Callable[..., Handle[R]], self.spawn)
            return spawn(*call.args, **call.kwargs).result

        return list(mapping.in_order(calls, start, keeps_errors=keeps_errors))

    def _body(self, caller: Caller, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        return self.signature.body(args, kwargs, caller.places)

    def _loaded(self, caller: Caller, body: bytes) -> R:
        return cast(R, self.signature.load(body, caller.places))

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        """What a class that is derived from this one is derived from. Raises DefinitionError."""
        del bases
        if inspect.isclass(self.target):
            return (self.target,)
        raise self._error(f"{self.name} is a function; a class can be derived from classes alone.")

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


# Kept by the decorators, because a module's own names no longer show what a second definition of a
# name has replaced, and do show what was imported from elsewhere.
_defined: dict[str, list[Function[..., Any]]] = {}


def defined_in(module: str) -> list[Function[..., Any]]:
    """The functions that a module has defined so far, in order.

    Raises DefinitionError for a name defined twice, and for one that means something else by now:
    a decorator above ours would be skipped. Or tells them, as :func:`mistakes.tell` does.
    """
    first: dict[str, Function[..., Any]] = {}
    for function in _defined.get(module, []):
        if (earlier := first.setdefault(function.name, function)) is not function:
            error = DefinitionError(
                f"{function.name} is defined twice, on lines {earlier.line} and {function.line}; "
                "rename one.",
                file=function.file,
                line=function.line,
            )
            tell(function.name, error)
        else:
            _check_is_outermost(function)
    return list(first.values())


def _check_is_outermost(function: Function[..., Any]) -> None:
    if not _is_hidden(function, vars(sys.modules.get(function.__module__, object))):
        return
    error = DefinitionError(
        f"{function.name} is something else by the end of the file, which callers would not "
        f"get: put @skipper.{function.kind} on top of the other decorators.",
        file=function.file,
        line=function.line,
    )
    tell(function.name, error)


def _is_hidden(function: Function[..., Any], names: Mapping[str, Any]) -> bool:
    """Whether a module, by its ``names``, means something else where it says the function's."""
    own, held = function.name.rpartition(".")[2], names.values()
    if own in names:  # where it means another definition of that name, both are told
        return not isinstance(names[own], Function) or names[own].name != function.name
    # One that was defined within another function may go by any name.
    is_named = any(each is function for each in held)
    return not is_named and any(remembers(each, function) for each in held)


def _decorate(kind: Kind, target: Any, options: Options) -> Any:
    if target is None:
        return lambda target: _decorate(kind, target, options)
    if not callable(target):
        raise DefinitionError(
            f"@skipper.{kind} stands before a function or a class, not before {target!r}."
        )
    if isinstance(target, Function):
        error = DefinitionError(
            f"{target.name} is decorated twice: keep one of @skipper.{target.kind} and "
            f"@skipper.{kind}.",
            file=target.file,
            line=target.line,
        )
        tell(target.name, error)
        return target
    try:
        function = Function(target, kind, options)
    except DefinitionError as error:
        tell(_full_name(function_below(target)), error)
        return target
    _defined.setdefault(function.__module__, []).append(function)
    return function


def _file_of(written: Any) -> str:
    return inspect.getsourcefile(written) or "<unknown>"


def _full_name(written: Any) -> str:
    return f"{_stem(written.__module__, _file_of(written))}.{written.__name__}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


def _seconds(value: float | str | None) -> float | None:
    return None if value is None else seconds(value)


def _name_of(kind: type[BaseException] | str) -> str:
    return kind if isinstance(kind, str) else kind.__name__


def _timetable(options: Options) -> Timetable | None:
    if "schedule" not in options:
        return None
    return Timetable(
        cron=options["schedule"],
        timezone=options.get("timezone", "UTC"),
        missed=Missed(options.get("missed", Missed.ONCE)),
        overlap=Overlap(options.get("overlap", Overlap.QUEUE)),
    )


def _stem(module: str, file: str) -> str:
    """``functions.boston`` → ``boston``, and so for the modules of a package ``boston``."""
    if module == "__main__":
        return Path(file).stem
    parts = module.split(".")
    return parts[1] if parts[0] == "functions" and len(parts) > 1 else parts[-1]


def _line_of(target: Any) -> int:
    code = getattr(target, "__code__", None)
    if code is not None:
        return int(code.co_firstlineno)
    try:
        return inspect.getsourcelines(target)[1]
    except (OSError, TypeError):
        return 1
