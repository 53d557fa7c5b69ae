"""A function's signature as pydantic sees it: its JSON body, and the JSON of its value."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import types
import typing
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
from typing import Annotated, Any, NotRequired, cast, get_args, get_origin

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python
from typing_extensions import TypedDict

from skipper.errors import DefinitionError
from skipper.function.model import Loaded, Model
from skipper.function.run import Run

_STREAMS = (Generator, AsyncGenerator, Iterator, AsyncIterator, Iterable, AsyncIterable)
_MODEL_SCHEMA = {
    "title": "Model",
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "integer"},
        "metrics": {"type": "object"},
    },
    "required": ["name", "version", "metrics"],
}


@dataclass(frozen=True, kw_only=True)
class Contract:
    """How to call one function with JSON and to answer in JSON."""

    body_parameter: str | None
    """The one parameter that is the whole body; None where the body has a member per parameter."""
    run_parameters: tuple[str, ...]
    loaded_parameters: Mapping[str, str]
    """Parameter name → model name."""
    is_async: bool
    streams: bool
    item: Any
    """The type of a body."""
    input: TypeAdapter[Any]
    output: TypeAdapter[Any]
    returns_model: bool
    names: tuple[str, ...]
    """Body parameters in the order of the signature."""
    defaults: Mapping[str, Any]
    """Of those that a body may leave out."""

    def parse(self, body: bytes) -> dict[str, Any]:
        """Keyword arguments from a JSON body. Raises pydantic's ValidationError."""
        if not body and self.body_parameter in self.defaults:
            return {}
        _check_numbers(body)
        # The adapter's own validate_json and dump_json are the same with a layer of Python around.
        return self._named(self.input.validator.validate_json(body or b"{}"))

    def parse_items(self, body: bytes) -> list[dict[str, Any] | Exception] | None:
        """Keyword arguments of each item of ``{"items": […]}``, or what is wrong with that item.

        None for any other body, and where a single item may have such a member of its own.
        """
        if self._has_items or not _BEGINS_MANY(body):
            return None
        _check_numbers(body)
        with contextlib.suppress(Exception):  # whatever it is, it is looked for item by item
            return [self._named(value) for value in self._many.validate_json(body)["items"]]
        try:
            items = _ONLY_ITEMS.validate_json(body)["items"]
        except ValidationError:
            return None
        return [self._parse_item(to_json(item)) for item in items]

    def _parse_item(self, body: bytes) -> dict[str, Any] | Exception:
        try:
            return self._named(self.input.validate_json(body))
        except Exception as error:  # noqa: BLE001 - a validator of the user's may raise anything
            return error

    def _named(self, value: Any) -> dict[str, Any]:
        return value if self.body_parameter is None else {self.body_parameter: value}

    @functools.cached_property
    def _many(self) -> TypeAdapter[Any]:
        """What ``{"items": […]}`` must be."""
        return TypeAdapter(_shape("items", {"items": list[self.item]}))  # type: ignore[name-defined] # a type made at run time

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
        return "items" in _members(_bare(self.item))

    def dump(self, value: Any) -> bytes:
        """The JSON of a value. Raises TypeError or ValueError for what JSON cannot say."""
        try:
            return self.output.serializer.to_json(value, fallback=_plain, warnings="none")
        except PydanticSerializationError as error:
            raise TypeError(f"the returned value is not JSON: {error}") from None

    def body(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The JSON body that stands for calling the function with these arguments.

        JSON has no NaN and no infinities: they go as texts, which a float is read from.
        """
        if len(args) > len(self.names):
            raise TypeError(
                f"at most {len(self.names)} arguments ({', '.join(self.names)}), not {len(args)}"
            )
        given = dict(zip(self.names, args, strict=False))
        if twice := given.keys() & kwargs.keys():
            raise TypeError(f"{', '.join(sorted(twice))} given twice")
        given |= kwargs
        if not given and self.body_parameter in self.defaults:
            return b""
        if self.body_parameter is not None and set(given) == {self.body_parameter}:
            given = given[self.body_parameter]
        return to_json(given, fallback=_plain, inf_nan_mode="strings")

    def input_schema(self) -> dict[str, Any]:
        return self.input.json_schema()

    def output_schema(self) -> dict[str, Any]:
        if self.returns_model:
            return _MODEL_SCHEMA
        try:
            item = self.output.json_schema(mode="serialization")
        except (PydanticInvalidForJsonSchema, PydanticUserError):
            return {}
        return item


def _check_numbers(body: bytes) -> None:
    """Raise ValidationError for ``NaN`` and ``Infinity``, which pydantic reads and JSON has not.

    Only where the words occur, in a text perhaps, is the body read once more.
    """
    if b"NaN" in body or b"Infinity" in body:
        try:
            from_json(body, allow_inf_nan=False)
        except ValueError as error:
            told: Any = {
                "type": "json_invalid",
                "loc": (),
                "input": "",
                "ctx": {"error": str(error)},
            }
            raise ValidationError.from_exception_data("body", [told]) from None


def contract_of(target: Callable[..., Any] | type, *, batched: bool = False) -> Contract:
    """Read the signature of a function, or of a class's ``__call__``.

    With ``batched`` each body parameter is the list of what single callers send, and the contract
    is theirs.

    Raises :class:`DefinitionError` where JSON cannot call it, saying what to write instead.
    """
    call = target.__call__ if inspect.isclass(target) else target
    if inspect.isclass(target) and "__call__" not in {
        k for c in target.__mro__[:-1] for k in vars(c)
    }:
        raise DefinitionError(
            f"class {target.__name__} needs a __call__ method: it is what callers call."
        )
    hints = _hints(call)
    parameters = list(inspect.signature(call).parameters.values())
    runs, loaded, body = _sorted(parameters[inspect.isclass(target) :], hints)
    if batched:
        _check_batched(call, runs, body)
        hints |= {p.name: _item_of(p.name, hints.get(p.name, list[Any])) for p in body}
        hints["return"] = _returned_item(hints.get("return", list[Any]))
    body_parameter = _sole_model(body, hints)
    item = _item_type(target.__name__, body, body_parameter, hints)
    returned = hints.get("return", Any)
    streams = inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)
    return Contract(
        body_parameter=body_parameter,
        run_parameters=tuple(runs),
        loaded_parameters=loaded,
        is_async=inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call),
        streams=streams,
        item=item,
        input=TypeAdapter(item),
        output=_output_adapter(returned, streams),
        returns_model=returned is Model,
        names=tuple(parameter.name for parameter in body),
        defaults={p.name: p.default for p in body if p.default is not p.empty},
    )


def _sorted(
    parameters: list[inspect.Parameter], hints: Mapping[str, Any]
) -> tuple[list[str], dict[str, str], list[inspect.Parameter]]:
    """The parameters that get the run, those that get models (name → model), those of the body."""
    runs, loaded, body = [], {}, []
    for parameter in parameters:
        hint = hints.get(parameter.name, Any)
        if hint is Run:
            _check_keyword_only(parameter, "skipper.Run")
            runs.append(parameter.name)
        elif (mark := _loaded_mark(hint)) is not None:
            _check_keyword_only(parameter, "skipper.Loaded")
            loaded[parameter.name] = mark.name
        else:
            body.append(_checked(parameter))
    return runs, loaded, body


def _check_batched(
    call: Callable[..., Any], runs: list[str], body: list[inspect.Parameter]
) -> None:
    if runs:
        raise DefinitionError("a batch is many calls, so no one skipper.Run: remove the parameter.")
    odd = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(is_odd(call) for is_odd in odd):
        raise DefinitionError("batch=… needs a plain function: no async def, no generator.")
    if not body:
        raise DefinitionError("batch=… needs a parameter: the list of what callers send.")
    for parameter in body:
        if parameter.default is not parameter.empty:
            raise DefinitionError(f"parameter {parameter.name!r} of a batch cannot have a default.")


def _item_of(name: str, hint: Any) -> Any:
    bare = _bare(hint)
    if bare is list:
        return Any
    if get_origin(bare) not in (list, Sequence):
        raise DefinitionError(
            f"parameter {name!r} of a batch is the list of what callers send: "
            f"write list[{_shown(bare)}], or name a function that takes lists with batch_with=…"
        )
    return get_args(bare)[0]


def _returned_item(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) in (list, Sequence) else Any


def _hints(call: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(call, include_extras=True)
    except NameError as error:
        raise DefinitionError(
            f"{error}; a type hint must be importable when the file is loaded "
            "(not only under TYPE_CHECKING)."
        ) from None


def _check_keyword_only(parameter: inspect.Parameter, what: str) -> None:
    if parameter.kind is not parameter.KEYWORD_ONLY:
        raise DefinitionError(
            f"parameter {parameter.name!r} ({what}) is injected, so it must be keyword-only: "
            f"write `*, {parameter.name}` after the others."
        )


def _checked(parameter: inspect.Parameter) -> inspect.Parameter:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        sign = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise DefinitionError(
            f"{sign}{parameter.name} has no schema; name each parameter, "
            "or take one `dict` or `list`."
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise DefinitionError(f"parameter {parameter.name!r} is positional-only; remove the `/`.")
    return parameter


def _loaded_mark(hint: Any) -> Loaded | None:
    if get_origin(hint) is Annotated:
        return next((mark for mark in get_args(hint)[1:] if isinstance(mark, Loaded)), None)
    return None


def _sole_model(body: list[inspect.Parameter], hints: Mapping[str, Any]) -> str | None:
    if len(body) != 1:
        return None
    bare = _bare(hints.get(body[0].name, Any))
    return body[0].name if inspect.isclass(bare) and issubclass(bare, BaseModel) else None


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _members(model: type[BaseModel]) -> Iterator[str]:
    """Every name under which a body may give one of the model's fields."""
    for name, field in model.model_fields.items():
        yield name
        for alias in (field.alias, field.validation_alias):
            for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
                yield str(choice.path[0] if isinstance(choice, AliasPath) else choice)


def _item_type(
    name: str, body: list[inspect.Parameter], body_parameter: str | None, hints: Mapping[str, Any]
) -> Any:
    if body_parameter is not None:
        return hints[body_parameter]
    fields: dict[str, Any] = {}
    for parameter in body:
        hint = hints.get(parameter.name, Any)
        _check_json(parameter.name, hint)
        is_needed = parameter.default is parameter.empty
        fields[parameter.name] = hint if is_needed else _optional(hint, parameter.default)
    return _shape(f"{name}_input", fields)


def _shape(name: str, fields: dict[str, Any]) -> Any:
    """A typed dict rather than a model: any parameter name is allowed, a missing one is left to the
    function's own default, and validation makes no object to take apart again.
    """
    shape: Any = types.new_class(
        name, (cast(Any, TypedDict),), {}, lambda space: space.update(__annotations__=fields)
    )
    shape.__pydantic_config__ = ConfigDict(extra="forbid")
    return shape


def _optional(hint: Any, default: Any) -> Any:
    try:
        extra = {"default": to_jsonable_python(default)}
    except PydanticSerializationError:
        return NotRequired[hint]
    return NotRequired[Annotated[hint, Field(json_schema_extra=extra)]]


def _check_json(name: str, hint: Any) -> None:
    try:
        TypeAdapter(hint).json_schema()
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema):
        raise DefinitionError(
            f"parameter {name!r}: {_shown(hint)} cannot come from JSON; take plain data (for an "
            "array `list[float]` or `list[list[float]]`) and convert it inside the function."
        ) from None
    except PydanticUserError as error:
        raise DefinitionError(f"parameter {name!r}: {error}") from None


def _shown(hint: Any) -> str:
    if not inspect.isclass(hint):
        return str(hint)
    name = f"{hint.__module__}.{hint.__qualname__}"
    return name.removeprefix("builtins.")


def _output_adapter(returned: Any, streams: bool) -> TypeAdapter[Any]:
    if streams and get_origin(returned) in _STREAMS:
        returned = get_args(returned)[0]
    elif streams or returned is Model:
        returned = Any
    try:
        return TypeAdapter(returned)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return TypeAdapter(Any)


def _plain(value: Any) -> Any:
    """JSON for arrays and tensors: whatever can say itself as plain lists and numbers."""
    for method in ("tolist", "numpy", "item", "to_dict"):
        if callable(convert := getattr(value, method, None)):
            return convert()
    raise TypeError(
        f"{_shown(type(value))} is not JSON; return plain data, a pydantic model or a dataclass"
    )


_BEGINS_MANY = re.compile(rb'\s*\{\s*"items"\s*:').match
_ONLY_ITEMS = TypeAdapter(_shape("items", {"items": list[Any]}))
