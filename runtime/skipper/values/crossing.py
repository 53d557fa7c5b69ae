"""Where value types meet pydantic: hints that name them are validated and dumped by them.

Whatever stands around them in a hint (lists, unions, dataclasses, models) stays pydantic's, and so
do the places that errors name. ``bytes`` are base64 everywhere, but in models whose own
configuration says how bytes stand in JSON.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Annotated, Any, Literal, NamedTuple, Protocol, Union, cast, get_args, get_origin

from pydantic import ConfigDict, PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, SchemaSerializer, SchemaValidator, core_schema

from skipper.values import builtin, installed
from skipper.values.envelope import REFERENCE, reference, referred
from skipper.values.opening import NO_PARTS
from skipper.values.types import Content, ValueType, ValueTypes, Written, matches
from skipper.values.value import JSON

VALUE_TYPES = ValueTypes((builtin.find, installed.find))
"""Those of this process: the built-in ones and those of plugins, in an instance its project's."""
_MARK = "skipper_value_type"
# Bytes are base64 also where no hint says that there are any: what a value is written as is not to
# hang on what its bytes look like.
_ANY_TYPE = ConfigDict(arbitrary_types_allowed=True, ser_json_bytes="base64")
_REFERENCE_SCHEMA = {
    "title": "File",
    "type": "object",
    "properties": {REFERENCE: {"type": "string", "description": "id of an uploaded file"}},
    "required": [REFERENCE],
    "additionalProperties": False,
}
_AS_TEXTS = core_schema.CoreConfig(ser_json_inf_nan="strings")
Mode = Literal["validation", "serialization"]


class UnknownTypeError(TypeError):
    """A class that neither pydantic nor a value type knows."""

    def __init__(self, cls: type) -> None:
        super().__init__(f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins."))


class Opening(Protocol):
    """The context in which a body is validated: what opens the parts that it refers to."""

    def open(self, key: str) -> Content:
        """The part or the file with this key. Raises ValueError where there is none."""
        ...

    def hold(self, data: bytes) -> Content:
        """Bytes that stood in the JSON itself, of an unknown type."""
        ...


class Collecting(Protocol):
    """The context in which a value is dumped whose parts are to stay as they are."""

    def collect(self, written: Written) -> str:
        """The key under which the JSON refers to this part."""
        ...


class Adapter:
    """A hint as pydantic's TypeAdapter sees it, with value types in it.

    Raises :class:`UnknownTypeError` for a class that nobody knows, and what pydantic raises.
    """

    def __init__(self, hint: Any) -> None:
        plain = _plain(hint)
        self._schema = schema = cast(CoreSchema, _rewritten(plain.schema))
        self.has_value_types = _has_mark(schema)
        """Whether something in it is no plain JSON."""
        self.validator, self.serializer = plain.validator, plain.serializer
        if schema != plain.schema:
            # Not the classes' own validators, which know nothing of what has been put in here.
            self.validator = SchemaValidator(schema, None, False)
            self.serializer = SchemaSerializer(schema, None, False)

    @cached_property
    def sending(self) -> SchemaSerializer:
        """Dumps what a body of this type is to be made of: infinities and NaN as texts."""
        return SchemaSerializer(self._schema, _AS_TEXTS, False)

    def json_schema(self, mode: Mode = "validation") -> dict[str, Any]:
        """What its JSON must be, or is."""
        return _Schemas(by_alias=True).generate(self._schema, mode=mode)


def schema_of(found: ValueType) -> CoreSchema:
    """pydantic's schema of the values of a type."""
    return core_schema.with_info_plain_validator_function(
        partial(_validated, found), serialization=_dumping(found), metadata={_MARK: found}
    )


def value_type_of(hint: Any) -> ValueType | None:
    """The value type of a whole hint, or of the only one in a union; None where JSON is all."""
    marks: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        marks = tuple(rest)
    if get_origin(hint) in (Union, types.UnionType):
        found = [each for each in map(value_type_of, get_args(hint)) if each is not None]
        return found[0] if len(found) == 1 else None
    return VALUE_TYPES.find(hint, marks)


def read_value(found: ValueType, content: Content) -> Any:
    """The value that these bytes are. Raises ValueError."""
    if content.media_type == JSON and not matches(JSON, found.reads):
        return found.from_json(json.loads(bytes(content.view())))
    if not matches(content.media_type, found.reads):
        kinds = ", ".join((*found.reads, JSON))
        raise ValueError(f"{found.name} is read from {kinds}, not from {content.media_type}")
    return found.read(content)


class _Plain(NamedTuple):
    """What pydantic makes of a hint."""

    schema: CoreSchema
    validator: Any
    serializer: SchemaSerializer


def _plain(hint: Any) -> _Plain:
    found = _configured(hint)
    # Of a class with a configuration of its own, which is not to be given another.
    return _taken_apart(TypeAdapter(hint)) if found is None else found


def _configured(hint: Any) -> _Plain | None:
    try:
        return _taken_apart(TypeAdapter(hint, config=_ANY_TYPE))
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
    return None


def _taken_apart(adapter: TypeAdapter[Any]) -> _Plain:
    """What an adapter consists of.

    It itself is in no variable and made while no error is handled, because it keeps its caller's
    frame, and with that all frames above it and what they hold: models, arguments, open files.
    """
    return _Plain(adapter.core_schema, adapter.validator, adapter.serializer)


# --- within pydantic -----------------------------------------------------------------------------


def _validated(found: ValueType, value: Any, info: core_schema.ValidationInfo) -> Any:
    try:
        if found.is_value(value):
            return found.accepted(value)
        opening: Opening = info.context or NO_PARTS
        if (key := referred(value)) is not None:
            return found.accepted(read_value(found, opening.open(key)))
        if found.is_base64_in_json:
            return found.accepted(found.read(opening.hold(builtin.decoded(value))))
        return found.accepted(found.from_json(value))
    except ValueError:
        raise
    except Exception as error:
        # Because what came is a caller's, and libraries raise all kinds of errors for it.
        raise ValueError(f"cannot be read as {found.name}: {type(error).__name__}") from error


def _dumped(found: ValueType, value: Any, info: core_schema.SerializationInfo) -> Any:
    if not found.is_value(value):
        return value  # of another type than the hint says: pydantic's way with anything
    collecting: Collecting | None = info.context
    if collecting is None:
        return found.to_json(value)
    return reference(collecting.collect(found.write(value, found.native)))


def _dumping(found: ValueType) -> core_schema.SerSchema:
    return core_schema.plain_serializer_function_ser_schema(partial(_dumped, found), info_arg=True)


def _rewritten(node: Any, *, keeps_bytes: bool = False) -> Any:
    """A schema in which value types stand for what pydantic does not know, and for bytes."""
    if isinstance(node, list | tuple):
        return type(node)(_rewritten(each, keeps_bytes=keeps_bytes) for each in node)
    if not isinstance(node, dict) or _MARK in node.get("metadata", ()):
        return node
    kind = node.get("type")
    if kind == "is-instance" and "serialization" not in node:
        if (found := VALUE_TYPES.find(node["cls"])) is None:
            raise UnknownTypeError(node["cls"])
        return schema_of(found)
    if kind == "bytes" and not keeps_bytes:
        return core_schema.with_info_before_validator_function(
            partial(_validated, builtin.BYTES),
            cast(CoreSchema, node),
            serialization=_dumping(builtin.BYTES),
            metadata={_MARK: builtin.BYTES},
        )
    config = node.get("config") or {}
    keeps_bytes = keeps_bytes or "val_json_bytes" in config or "ser_json_bytes" in config
    return {
        name: each if name in _OPAQUE else _rewritten(each, keeps_bytes=keeps_bytes)
        for name, each in node.items()
    }


def _has_mark(node: Any) -> bool:
    if isinstance(node, list | tuple):
        return any(map(_has_mark, node))
    if not isinstance(node, dict):
        return False
    return _MARK in node.get("metadata", ()) or any(
        _has_mark(each) for name, each in node.items() if name not in _OPAQUE
    )


_OPAQUE = frozenset({"cls", "config", "metadata", "default", "expected", "function", "cls_name"})
"""Members of a schema that hold no schemas."""


class _Schemas(GenerateJsonSchema):
    """JSON schemas that show value types as they stand in JSON."""

    def function_plain_schema(self, schema: Any) -> JsonSchemaValue:
        return self._of_value(schema) or super().function_plain_schema(schema)

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        return self._of_value(schema) or super().function_before_schema(schema)

    def _of_value(self, schema: Mapping[str, Any]) -> JsonSchemaValue | None:
        found: ValueType | None = schema.get("metadata", {}).get(_MARK)
        if found is None:
            return None
        own = found.schema()
        return own if self.mode == "serialization" else {"anyOf": [own, _REFERENCE_SCHEMA]}
