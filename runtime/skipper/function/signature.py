"""A function's signature as pydantic sees it: its JSON body, and the JSON of its value."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import PydanticSchemaGenerationError, PydanticUserError, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticSerializationError, to_json

from skipper.errors import DefinitionError
from skipper.function.model import Loaded
from skipper.function.numbers import check_numbers, check_parsed
from skipper.function.parameters import (
    Parameters,
    body_type,
    members_of,
    object_type,
    of_one_item,
    parameters_of,
    stacked_in,
)
from skipper.function.plain import plain
from skipper.function.published import check_models, has_model, schema_of
from skipper.function.settled import settled
from skipper.function.targets import declared_by, innermost
from skipper.values.crossing import Adapter, UnknownTypeError, read_value, value_type_of
from skipper.values.envelope import NATIVE, Envelope, as_body, as_envelope
from skipper.values.opening import CollectedParts, OpenParts, Places
from skipper.values.types import ValueType
from skipper.values.value import JSON

_STREAMS = (Generator, AsyncGenerator, Iterator, AsyncIterator, Iterable, AsyncIterable)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """How to call one function with JSON and to answer in JSON."""

    body_parameter: str | None
    """The one parameter that is the whole body; None where the body has a member per parameter."""
    run_parameters: tuple[str, ...]
    loaded_parameters: Mapping[str, str]
    """Parameter name → model name."""
    by_call_parameters: Mapping[str, Loaded]
    """Of those whose model each call asks for."""
    is_async: bool
    streams: bool
    item: Any
    """The type of a body."""
    input: Adapter
    output: Adapter
    returned: Any
    """What the function says that it returns; of a batch, for each item."""
    names: tuple[str, ...]
    """Body parameters in the order of the signature."""
    defaults: Mapping[str, Any]
    """Of those that a body may leave out."""
    takes: Mapping[str, ValueType]
    """Body parameter → its value type, of those that have one."""
    takes_many: tuple[str, ...]
    """Body parameters that are lists of values of a type."""
    stacks: Mapping[str, ValueType]
    """Of a batch, by body parameter: the types that put all items into one value."""
    splits: ValueType | None
    """Of a batch: the type whose one returned value has all items."""
    gives: ValueType | None
    """The type of what is returned, where it is more than JSON; of a generator none."""

    @property
    def returns_model(self) -> bool:
        """Whether what is returned is a model, or may be."""
        return has_model(self.returned)

    def parse(self, body: bytes, parts: OpenParts | None = None) -> dict[str, Any]:
        """Keyword arguments from a JSON body; an empty one counts as ``{}``.

        ``parts`` has what it refers to, and belongs to the call: a file is there for as long as it
        is. Raises pydantic's ValidationError for what is not JSON or does not match, and whatever a
        validator of the user's raises.
        """
        if not body and self.body_parameter in self.defaults:
            return {}
        has_large = check_numbers(body)
        # Not the adapter's own validate_json and dump_json, because those add a layer of Python.
        value = self.input.validator.validate_json(body or b"{}", context=parts)
        if has_large:
            check_parsed(value)
        return self._named(value)

    def parse_plain(self, body: bytes) -> dict[str, Any] | None:
        """:meth:`parse` of one caller of a batch, where what is stacked is left plain data.

        None for what has to be looked at more closely, envelopes among it.
        """
        if not body or (not self._has_items and _BEGINS_MANY(body)) or check_numbers(body):
            return None
        try:
            found: dict[str, Any] = self._unread.validator.validate_json(body)
        except Exception:  # noqa: BLE001 - it is told by whoever looks at it more closely
            return None
        return found

    @functools.cached_property
    def _unread(self) -> Adapter:
        """The type of a body whose members that are stacked may be anything."""
        hints: dict[str, Any] = self.item.__annotations__
        return Adapter(object_type("unread", hints | dict.fromkeys(self.stacks, Any)))

    def parse_items(
        self, body: bytes, parts: OpenParts | None = None
    ) -> list[dict[str, Any] | Exception] | None:
        """Keyword arguments of each item of ``{"items": […]}``, or what is wrong with that item.

        None for any other body, and where a single item may have such a member of its own.
        """
        # A look at the first bytes, because to parse every single body twice would be slow.
        if self._has_items or not _BEGINS_MANY(body):
            return None
        has_large = check_numbers(body)
        # All at once first, because pydantic then goes through the list itself. Whatever goes wrong
        # is looked for item by item afterwards.
        with contextlib.suppress(Exception):
            if not has_large:
                many = self._many.validator.validate_json(body, context=parts)["items"]
                return [self._named(value) for value in many]
        try:
            items = _ONLY_ITEMS.validate_json(body)["items"]
        except ValidationError:
            return None
        return [self._parse_item(to_json(item), parts) for item in items]

    def _parse_item(self, body: bytes, parts: OpenParts | None) -> dict[str, Any] | Exception:
        try:
            return self.parse(body, parts)
        except Exception as error:  # noqa: BLE001 - a validator of the user's may raise anything
            return error

    def _named(self, value: Any) -> dict[str, Any]:
        return value if self.body_parameter is None else {self.body_parameter: value}

    @functools.cached_property
    def _many(self) -> Adapter:
        """What ``{"items": […]}`` must be; made when first needed, for most functions never."""
        return Adapter(object_type("items", {"items": list[self.item]}))  # type: ignore[name-defined] # a type made at run time

    @property
    def needs_input(self) -> bool:
        """Whether an empty body is refused."""
        try:
            self.parse(b"")
        except ValidationError:
            return True
        return False

    @functools.cached_property
    def _has_items(self) -> bool:
        """Whether a single body may have a member ``items``."""
        if self.body_parameter is None:
            return "items" in self.names
        return "items" in members_of(self.item)

    def dump(self, value: Any, parts: CollectedParts | None = None) -> bytes:
        """The JSON of a returned value, UTF-8; arrays and tensors of any shape as nested lists.

        With ``parts`` it refers to those, in which values that have a type are as they are. NaN and
        infinities become null. Raises TypeError or ValueError for what JSON cannot hold.
        """
        try:
            # Without warnings, because a value of another type than was declared is answered, too.
            return self.output.serializer.to_json(
                settled(value), fallback=_plain, warnings="none", by_alias=True, context=parts
            )
        except PydanticSerializationError as error:
            reason = str(error).removeprefix("Error serializing to JSON: ")
            raise TypeError(f"the returned value is not JSON: {reason}") from None
        except (TypeError, ValueError) as error:
            raise type(error)(f"the returned value is not JSON: {error}") from None

    def write(self, value: Any, accept: str, places: Places) -> bytes:
        """The body that answers with a returned value: JSON, or an envelope.

        ``accept`` is one of the media types that the function gives, empty for the first, or
        :data:`~skipper.values.envelope.NATIVE`. Raises as :meth:`dump` does, and OSError where the
        spool does not take what is large.
        """
        gives = self.gives
        if gives is None or not gives.is_value(value):
            if accept != NATIVE:
                return self.dump(value)
            parts = CollectedParts(places.spool)
            text = self.dump(value, parts)
            return as_body(Envelope(json=text, parts=tuple(parts.parts)))
        media_type = gives.native if accept == NATIVE else accept or gives.writes[0]
        if media_type == JSON:
            return self.dump(value)
        part = CollectedParts(places.spool).part(gives.write(value, media_type))
        return as_body(Envelope(parts=(part,)))

    def load(self, body: bytes, places: Places) -> Any:
        """The value that a body of :meth:`write` stands for, of the type that the function says.

        Plain data where it is of another one, as for a model, whose name and version it is.
        """
        envelope = as_envelope(body)
        parts = OpenParts(envelope.parts, places, is_owner=True)
        if envelope.json is None:
            return read_value(self.gives, parts.sole) if self.gives else parts.sole.view()
        if not envelope.json:
            return None
        if not self.returns_model:
            with contextlib.suppress(ValidationError):
                return self._whole.validator.validate_json(envelope.json, context=parts)
        return json.loads(envelope.json)

    @functools.cached_property
    def _whole(self) -> Adapter:
        """What a caller gets: of a generator the list of its items."""
        return Adapter(list[self.returned]) if self.streams else self.output  # type: ignore[name-defined] # a type made at run time

    def body(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], places: Places | None = None
    ) -> bytes:
        """The body that stands for calling the function with these arguments.

        Where ``places`` are, values of more types than JSON go beside it. JSON has no NaN and no
        infinities: they go as texts, which a float is read from. Raises TypeError for arguments
        that no call of the function could have.
        """
        if len(args) > len(self.names):
            raise TypeError(
                f"at most {len(self.names)} arguments ({', '.join(self.names)}), not {len(args)}"
            )
        given = dict(zip(self.names, args, strict=False))
        if twice := given.keys() & kwargs.keys():
            raise TypeError(f"{', '.join(sorted(twice))} given twice")
        given |= kwargs
        # Of types of their own, values come back as they are.
        accept = NATIVE if places is not None and self.output.has_value_types else ""
        if not given and self.body_parameter in self.defaults:
            return as_body(Envelope(json=b"", accept=accept))
        if self.body_parameter is not None and set(given) == {self.body_parameter}:
            given = given[self.body_parameter]
        if places is None or not self.input.has_value_types:
            text = to_json(given, fallback=plain, inf_nan_mode="strings", bytes_mode="base64")
            return as_body(Envelope(json=text, accept=accept))
        parts = CollectedParts(places.spool)
        text = self.input.sending.to_json(
            given, fallback=plain, warnings="none", by_alias=True, context=parts
        )
        return as_body(Envelope(json=text, parts=tuple(parts.parts), accept=accept))

    def input_schema(self) -> dict[str, Any]:
        """JSON schema of a body."""
        return self.input.json_schema()

    def output_schema(self) -> dict[str, Any]:
        """JSON schema of the value, of a generator that of one item; empty where it has none."""
        if self.returns_model:
            return schema_of(self.returned)
        try:
            item = self.output.json_schema(mode="serialization")
        except (PydanticInvalidForJsonSchema, PydanticUserError):
            return {}
        return item


def signature_of(target: Callable[..., Any] | type, *, batched: bool = False) -> Signature:
    """Read the signature of a function, or of a class's ``__call__``.

    With ``batched`` each body parameter is the list of what single callers send, and the signature
    is that of one caller. Raises :class:`DefinitionError` where JSON cannot call it, with what to
    write instead.
    """
    call = _callable_of(target)
    parameters = parameters_of(declared_by(call), is_method=inspect.isclass(target))
    whole = parameters
    if batched:
        parameters = of_one_item(call, parameters)
    item, returned = body_type(innermost(target).__name__, parameters), parameters.returned
    streams = inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)
    check_models(returned, streams=streams)
    return Signature(
        body_parameter=parameters.sole,
        run_parameters=parameters.run,
        loaded_parameters=parameters.loaded,
        by_call_parameters=parameters.by_call,
        is_async=inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call),
        streams=streams,
        item=item,
        input=Adapter(item),
        output=_output_adapter(returned, streams),
        returned=returned,
        names=tuple(parameter.name for parameter in parameters.body),
        defaults={p.name: p.default for p in parameters.body if p.default is not p.empty},
        takes=_value_types(parameters),
        takes_many=tuple(_lists(parameters)),
        stacks=_stacked(whole) if batched else {},
        splits=stacked_in(whole.returned) if batched else None,
        gives=None if streams else value_type_of(returned),
    )


def _plain(value: Any) -> Any:
    """Plain data for what pydantic does not know, with nothing in it that JSON would not keep."""
    return settled(plain(value))


def _stacked(parameters: Parameters) -> dict[str, ValueType]:
    hints = {p.name: parameters.hints.get(p.name, list) for p in parameters.body}
    found = {name: stacked_in(hint) for name, hint in hints.items()}
    return {name: each for name, each in found.items() if each is not None}


def _lists(parameters: Parameters) -> Iterator[str]:
    for parameter in parameters.body:
        hint = parameters.hints.get(parameter.name, Any)
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if get_origin(bare) in (list, Sequence) and value_type_of(get_args(bare)[0]):
            yield parameter.name


def _value_types(parameters: Parameters) -> dict[str, ValueType]:
    hints = {p.name: parameters.hints.get(p.name, Any) for p in parameters.body}
    found = {name: value_type_of(hint) for name, hint in hints.items()}
    return {name: each for name, each in found.items() if each is not None}


def _callable_of(target: Callable[..., Any] | type) -> Callable[..., Any]:
    if not inspect.isclass(target):
        return target
    _check_constructor(target)
    # Every class is callable by its metaclass, so the method is looked for in the classes' own
    # members, all but those of object.
    if not any("__call__" in vars(base) for base in target.__mro__[:-1]):
        raise DefinitionError(
            f"class {target.__name__} needs a __call__ method: it is what callers call."
        )
    method: Callable[..., Any] = target.__call__
    is_async = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
    if hasattr(target, "__aenter__") and not hasattr(target, "__enter__") and not is_async:
        raise DefinitionError(
            f"class {target.__name__} has __aenter__, which an event loop calls: write `async def "
            "__call__`, or __enter__ and __exit__."
        )
    return method


def _check_constructor(target: type) -> None:
    """Raise DefinitionError for what nobody gives: the one object is made without arguments."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # one of C, which says nothing of itself
        return
    open_ = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if asked := [p.name for p in parameters if p.default is p.empty and p.kind not in open_]:
        raise DefinitionError(
            f"{target.__name__}.__init__ needs {', '.join(asked)}, which nobody gives it: write a "
            "default, or read it in __init__."
        )


def _output_adapter(returned: Any, streams: bool) -> Adapter:
    if streams and get_origin(returned) in _STREAMS:
        returned = get_args(returned)[0]
    elif streams or has_model(returned):
        returned = Any
    try:
        return Adapter(returned)
    except (PydanticSchemaGenerationError, PydanticUserError, UnknownTypeError):
        return Adapter(Any)  # an object of any class is dumped as what it holds


_BEGINS_MANY = re.compile(rb'\s*\{\s*"items"\s*:').match
_ONLY_ITEMS = Adapter(object_type("items", {"items": list[Any]})).validator
