"""Which parameters of a function the body of a call fills, and which the runtime does.

Refuses, with what to write instead, whatever JSON cannot fill. How bodies are read and written is
``signature.py``'s.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NotRequired, Union, cast, get_args, get_origin

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    PydanticUserError,
)
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypedDict

from skipper import selectors
from skipper.errors import DefinitionError
from skipper.function.model import Loaded
from skipper.function.run import Run
from skipper.function.targets import innermost
from skipper.values.crossing import Adapter, UnknownTypeError, value_type_of
from skipper.values.types import ValueType


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The parameters of one function, by what fills them."""

    run: tuple[str, ...]
    """Names of those that get the call's :class:`~skipper.function.run.Run`."""
    loaded: Mapping[str, str]
    """Name → name of the model that it gets."""
    by_call: Mapping[str, Loaded]
    """Of those that get a model which each call asks for."""
    body: tuple[inspect.Parameter, ...]
    """Those that get members of the body, in the order of the signature."""
    hints: Mapping[str, Any]
    """The type of each, and of the value as ``return``, where the function names one."""

    @property
    def sole(self) -> str | None:
        """The one parameter that is the whole body, since it is a pydantic model or one of some."""
        if len(self.body) != 1:
            return None
        bare = without_metadata(self.hints.get(self.body[0].name, Any))
        return self.body[0].name if models_of(bare) else None

    @property
    def returned(self) -> Any:
        """The type of what the function returns; of a generator, that of the generator."""
        return self.hints.get("return", Any)


def parameters_of(call: Callable[..., Any], *, is_method: bool) -> Parameters:
    """Those of ``call``, of a method all but the first.

    Raises DefinitionError for a parameter that neither a body nor the runtime can fill.
    """
    hints = _hints(innermost(call))
    run, loaded, by_call, body = [], {}, {}, []
    declared = list(inspect.signature(call).parameters.values())
    for parameter in declared[1:] if is_method else declared:
        hint = hints.get(parameter.name, Any)
        if hint is Run:
            _check_keyword_only(parameter, "skipper.Run")
            run.append(parameter.name)
        elif (mark := _loaded_mark(hint)) is not None:
            _check_keyword_only(parameter, "skipper.Loaded")
            if mark.is_by_call:
                by_call[parameter.name] = mark
            else:
                loaded[parameter.name] = str(selectors.parse(mark.name))
        else:
            _check_named(parameter)
            body.append(parameter)
    made = Parameters(run=tuple(run), loaded=loaded, by_call=by_call, body=tuple(body), hints=hints)
    for mark in by_call.values():
        _check_filled(mark, made)
    return made


def of_one_item(call: Callable[..., Any], parameters: Parameters) -> Parameters:
    """What one caller fills where ``call`` takes a batch: lists, of one item for each caller.

    Raises DefinitionError where it cannot take a batch.
    """
    _check_batch(call, parameters)
    hints = {p.name: _item_of(p.name, parameters.hints.get(p.name, list)) for p in parameters.body}
    hints["return"] = _returned_item(parameters.hints.get("return"))
    return replace(parameters, hints={**parameters.hints, **hints})


def body_type(name: str, parameters: Parameters) -> Any:
    """The type of a body: the sole model, or an object with a member for each parameter.

    ``name`` is the function's. Raises DefinitionError for a type that cannot come from JSON.
    """
    if (sole := parameters.sole) is not None:
        return parameters.hints[sole]
    fields: dict[str, Any] = {}
    for parameter in parameters.body:
        hint = parameters.hints.get(parameter.name, Any)
        _check_json(parameter.name, hint)
        is_needed = parameter.default is parameter.empty
        if parameter.default is None:
            hint = Union[hint, None]  # noqa: UP007 - of a hint that is a text | makes nothing
        fields[parameter.name] = hint if is_needed else _optional(hint, parameter.default)
    return object_type(f"{name}_input", fields)


def object_type(name: str, fields: dict[str, Any]) -> Any:
    """The type of a JSON object that has these members and no others.

    A typed dict rather than a model, because any parameter name is allowed, a missing member is
    left to the function's own default, and validation makes no object to take apart again.
    """
    made: Any = types.new_class(
        name, (cast(Any, TypedDict),), {}, lambda space: space.update(__annotations__=fields)
    )
    made.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return made


def models_of(hint: Any) -> tuple[type[BaseModel], ...]:
    """The pydantic models that a body is one of; none where it may be anything else.

    Of a union all its members, which are told apart by a field (``Field(discriminator=…)``).
    """
    bare = without_metadata(hint)
    if inspect.isclass(bare) and not get_args(bare):
        return (bare,) if issubclass(bare, BaseModel) else ()
    is_union = get_origin(bare) in (Union, types.UnionType)
    found = [models_of(each) for each in get_args(bare)] if is_union else []
    return tuple(model for each in found for model in each) if all(found) else ()


def members_of(hint: Any) -> Iterator[str]:
    """Every name under which a body may give a field of one of the hint's models."""
    for name, field in (item for m in models_of(hint) for item in m.model_fields.items()):
        yield name
        for alias in (field.alias, field.validation_alias):
            for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
                yield str(choice.path[0] if isinstance(choice, AliasPath) else choice)


def without_metadata(hint: Any) -> Any:
    """``T`` for ``Annotated[T, …]``."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def type_name(hint: Any) -> str:
    """How a message names a type: ``numpy.ndarray``, ``int``, ``list[float]``."""
    if not inspect.isclass(hint):
        return str(hint)
    return f"{hint.__module__}.{hint.__qualname__}".removeprefix("builtins.")


def _hints(call: Callable[..., Any]) -> dict[str, Any]:
    try:
        # With extras, because the mark of a loaded model stands in an Annotated.
        return typing.get_type_hints(call, include_extras=True)
    except NameError as error:
        raise DefinitionError(
            f"{error}; a type hint must be importable when the file is loaded "
            "(not only under TYPE_CHECKING)."
        ) from None


def _loaded_mark(hint: Any) -> Loaded | None:
    if get_origin(hint) is Annotated:
        return next((mark for mark in get_args(hint)[1:] if isinstance(mark, Loaded)), None)
    return None


def _optional(hint: Any, default: Any) -> Any:
    try:
        extra = {"default": to_jsonable_python(default)}
    except PydanticSerializationError:  # the schema names no default; the function has it still
        return NotRequired[hint]
    return NotRequired[Annotated[hint, Field(json_schema_extra=extra)]]


# --- what is refused -------------------------------------------------------------------------


def _check_keyword_only(parameter: inspect.Parameter, what: str) -> None:
    if parameter.kind is not parameter.KEYWORD_ONLY:
        raise DefinitionError(
            f"parameter {parameter.name!r} ({what}) is injected, so it must be keyword-only: "
            f"write `*, {parameter.name}` after the others."
        )


def _check_filled(mark: Loaded, parameters: Parameters) -> None:
    known = {parameter.name for parameter in parameters.body}
    if parameters.sole is not None:
        models = models_of(parameters.hints[parameters.sole])
        known = set.intersection(*({*model.model_fields} for model in models))
    if absent := set(mark.fields) - known:
        raise DefinitionError(
            f"Loaded({mark.name!r}): the body has no member {', '.join(sorted(absent))} that could "
            f"fill the name; it has {', '.join(sorted(known)) or 'none'}."
        )


def _check_named(parameter: inspect.Parameter) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        sign = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise DefinitionError(
            f"{sign}{parameter.name} has no schema; name each parameter, "
            "or take one `dict` or `list`."
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise DefinitionError(f"parameter {parameter.name!r} is positional-only; remove the `/`.")
    if isinstance(parameter.default, Loaded):
        asked = f"skipper.Loaded({parameter.default.name!r})"
        raise DefinitionError(
            f"parameter {parameter.name!r} has {asked} for its default, which loads nothing: "
            f"write `*, {parameter.name}: Annotated[Any, {asked}]`."
        )


def _check_batch(call: Callable[..., Any], parameters: Parameters) -> None:
    odd = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(is_odd(call) for is_odd in odd):
        raise DefinitionError("batch=… needs a plain function: no async def, no generator.")
    if not parameters.body:
        raise DefinitionError("batch=… needs a parameter: the list of what callers send.")
    for parameter in parameters.body:
        if parameter.default is not parameter.empty:
            raise DefinitionError(f"parameter {parameter.name!r} of a batch cannot have a default.")


def stacked_in(hint: Any) -> ValueType | None:
    """The type whose one value is a whole batch of items; None where a batch is a list."""
    found = value_type_of(hint)
    try:
        return None if found is None or found.item() is None else found
    except ValueError as error:
        raise DefinitionError(str(error)) from None


def _returned_item(returned: Any) -> Any:
    if (found := stacked_in(returned)) is not None:
        return found.item()
    return get_args(returned)[0] if get_origin(returned) in (list, Sequence) else Any


def _item_of(name: str, hint: Any) -> Any:
    if (found := stacked_in(hint)) is not None:
        return found.item()
    bare = without_metadata(hint)
    if bare is list:
        return Any
    if get_origin(bare) not in (list, Sequence):
        raise DefinitionError(
            f"parameter {name!r} of a batch is the list of what callers send: "
            f"write list[{type_name(bare)}], or name a function that takes lists with batch_with=…"
        )
    return get_args(bare)[0]


def _check_json(name: str, hint: Any) -> None:
    try:
        Adapter(hint).json_schema()
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, UnknownTypeError):
        raise DefinitionError(
            f"parameter {name!r}: {type_name(hint)} cannot come from callers; take plain data and "
            "convert it inside the function, or name its value type in a plugin "
            "(skipper_value_type)."
        ) from None
    except PydanticUserError as error:
        raise DefinitionError(f"parameter {name!r}: {error}") from None
