"""What a function is to return, where that has models: if it can be published, and its schema."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from skipper.errors import DefinitionError
from skipper.function.model import Model
from skipper.values.crossing import Adapter

_MODEL_SCHEMA = {
    "title": "Model",
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "integer"},
        "metrics": {"type": "object"},
        "promoted": {"type": "boolean"},
        "why": {"type": "string"},
    },
    "required": ["name", "version", "metrics", "promoted"],
}
_UNIONS = (Union, types.UnionType)


def has_model(returned: Any) -> bool:
    """Whether a type is :class:`Model`, or one that has it: ``Model | None``, ``list[Model]``."""
    return returned is Model or any(map(has_model, get_args(returned)))


def check_models(returned: Any, *, streams: bool) -> None:
    """Raise DefinitionError where the models in a returned type could never be published.

    Said before the training runs, because what it has trained would be lost otherwise.
    """
    if not has_model(returned) or (not streams and _is_published(returned)):
        return
    raise DefinitionError(
        f"it is to return {returned}: models are published where a function returns one, or a "
        "list, tuple or dict of models alone. Say the rest in their metrics or params, or publish "
        "them with run.save."
    )


def _is_published(returned: Any) -> bool:
    origin, inner = get_origin(returned), get_args(returned)
    if returned is Model:
        return True
    if origin is Annotated:
        return _is_published(inner[0])
    if origin in _UNIONS:
        return all(_is_published(each) or not has_model(each) for each in inner)
    if origin in (dict, Mapping):
        return _is_model(inner[1])
    if origin in (list, tuple, Sequence):
        return all(each is Ellipsis or _is_model(each) for each in inner)
    return False


def _is_model(returned: Any) -> bool:
    return returned is Model or (get_origin(returned) is Annotated and returned.__origin__ is Model)


def schema_of(returned: Any) -> dict[str, Any]:
    """What the records of models look like that a type has, in their places."""
    origin, inner = get_origin(returned), get_args(returned)
    if returned is Model:
        return dict(_MODEL_SCHEMA)
    if not has_model(returned):
        return Adapter(returned).json_schema()
    if origin is Annotated:
        return schema_of(inner[0])
    if origin in _UNIONS:
        return {"anyOf": [schema_of(each) for each in inner]}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": schema_of(inner[1])}
    if origin is tuple and Ellipsis not in inner:
        each = [schema_of(item) for item in inner]
        return {
            "type": "array",
            "prefixItems": each,
            "minItems": len(each),
            "maxItems": len(each),
        }
    return {"type": "array", "items": schema_of(inner[0])}
