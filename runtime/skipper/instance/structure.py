"""A model made of parts: which parts it has, and how they are put together, as one JSON document.

Containers and records of plain values and parts, nested to any sensible depth, come back as they
were, of the same classes. Authors' keys and names stand in it as data alone. The parts themselves
are others' to write and to read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from skipper.errors import FormatError
from skipper.instance import classes, scalars

DEPTH = 100
"""Levels of a structure; one that holds itself has more."""
NODES = 5_000_000
"""Values in a structure."""

WritePart = Callable[[Any, str], Any]
"""Called with what is no container, record or plain value, and its place; what stands for it."""


class NotPlainError(FormatError):
    """Something that no structure is made of; it has to be a part."""


class StructureWriter:
    """Writes one structure. ``write_part`` writes what it is made of; the same object once."""

    def __init__(self, write_part: WritePart) -> None:
        self._write_part = write_part
        self._written: dict[int, Any] = {}
        self._kept: list[Any] = []  # so that no id is given to another object meanwhile
        self._nodes = self._depth = 0

    def write(self, value: Any, place: str = "value") -> Any:
        """The JSON of a value at ``place``. Raises FormatError, and what ``write_part`` raises."""
        self._nodes += 1
        if self._depth > DEPTH:
            raise FormatError(f"{place:.200} lies more than {DEPTH} levels deep, or holds itself")
        if self._nodes > NODES:
            raise FormatError(f"it has more than {NODES} values; put them into an array, or a file")
        if scalars.is_scalar(value):
            return scalars.write(value)
        self._depth += 1
        try:
            return self._written_as(value, place)
        finally:
            self._depth -= 1

    def _written_as(self, value: Any, place: str) -> Any:
        if (write := _CONTAINERS.get(type(value))) is not None:
            return write(self, value, place)
        if (known := self._written.get(id(value))) is None:
            known = self._written[id(value)] = self._write_part(value, place)
            self._kept.append(value)
        return known

    def record(self, value: Any, place: str) -> Any:
        """The JSON of a dataclass, NamedTuple or pydantic model; NotPlainError for all else."""
        kind = type(value)
        if (names := _fields_of(kind)) is None:
            raise NotPlainError(f"{place} is a {kind.__module__}.{kind.__qualname__}")
        if isinstance(value, BaseModel):
            names = (*names, *(value.model_extra or ()))
        try:
            cls = classes.name_of(kind)
        except FormatError as error:
            raise FormatError(f"{place}: {error}") from None
        fields = [
            [name, self.write(getattr(value, name), f"{place}.{name}")]
            for name in names
            if hasattr(value, name)
        ]
        return {"record": [cls, fields]}

    def _many(self, values: Iterable[Any], place: str) -> list[Any]:
        return [self.write(each, f"{place}[{i}]") for i, each in enumerate(values)]

    def _tuple(self, value: tuple[Any, ...], place: str) -> Any:
        return {"tuple": self._many(value, place)}

    def _set(self, value: set[Any], place: str) -> Any:
        return {"set": self._many(value, place)}

    def _frozenset(self, value: frozenset[Any], place: str) -> Any:
        return {"frozenset": self._many(value, place)}

    def _dict(self, value: dict[Any, Any], place: str) -> Any:
        items = []
        for key, each in value.items():
            written = self.write(key, f"a key of {place}")
            items.append([written, self.write(each, f"{place}[{key!r:.100}]")])
        return {"dict": items}


_CONTAINERS: Mapping[type, Callable[[StructureWriter, Any, str], Any]] = {
    list: StructureWriter._many,
    tuple: StructureWriter._tuple,
    set: StructureWriter._set,
    frozenset: StructureWriter._frozenset,
    dict: StructureWriter._dict,
}


def _fields_of(kind: type) -> tuple[str, ...] | None:
    """The names of what an object of a class consists of; None where it is no record."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, BaseModel):
        return tuple(kind.model_fields)
    if issubclass(kind, tuple):
        return getattr(kind, "_fields", None)
    return None


class StructureReader:
    """Reads one structure back. ``read_part`` has the value of a part by what was written of it."""

    def __init__(self, read_part: Callable[[Any], Any]) -> None:
        self._read_part = read_part

    def read(self, node: Any, depth: int = 0) -> Any:
        """The value. Raises FormatError where the document is damaged or a class is gone."""
        if depth > 2 * DEPTH:
            raise FormatError("the saved model is damaged: it lies too deep")
        if isinstance(node, list):
            return self._many(node, depth)
        if not isinstance(node, dict):
            return node
        if len(node) != 1:
            raise FormatError("the saved model is damaged: a value of no kind, or of several")
        ((tag, item),) = node.items()
        if tag == "part":
            return self._read_part(item)
        if tag in scalars.TAGS:
            return scalars.read(tag, item)
        if tag not in _READERS or not isinstance(item, list):
            raise FormatError(f"the saved model has a {tag!r:.100}, which this version cannot read")
        return _READERS[tag](self, item, depth + 1)

    def _many(self, nodes: list[Any], depth: int) -> list[Any]:
        return [self.read(node, depth + 1) for node in nodes]

    def _dict(self, items: list[Any], depth: int) -> dict[Any, Any]:
        return dict(self._hashable(_pair(item), depth) for item in items)

    def _hashable(self, pair: tuple[Any, Any], depth: int) -> tuple[Any, Any]:
        key, value = self.read(pair[0], depth), self.read(pair[1], depth)
        try:
            hash(key)
        except TypeError:
            raise FormatError("the saved model is damaged: a key that cannot be one") from None
        return key, value

    def _record(self, item: list[Any], depth: int) -> Any:
        name, fields = _pair(item)
        if not isinstance(name, str) or not isinstance(fields, list):
            raise FormatError("the saved model is damaged: a record without a class")
        cls = classes.find(name)
        values = {str(each[0]): self.read(each[1], depth) for each in map(_pair, fields)}
        return _filled(cls, name, values)


_READERS: Mapping[str, Callable[[StructureReader, list[Any], int], Any]] = {
    "tuple": lambda reader, nodes, depth: tuple(reader._many(nodes, depth)),
    "set": lambda reader, nodes, depth: set(reader._many(nodes, depth)),
    "frozenset": lambda reader, nodes, depth: frozenset(reader._many(nodes, depth)),
    "dict": StructureReader._dict,
    "record": StructureReader._record,
}


def _pair(item: Any) -> tuple[Any, Any]:
    if not isinstance(item, list) or len(item) != 2:
        raise FormatError("the saved model is damaged: half of an item is missing")
    return item[0], item[1]


def _filled(cls: type, name: str, values: dict[str, Any]) -> Any:
    """An object of a class with these fields, which its ``__init__`` does not see.

    Because what was saved may have been changed since it was made, and is to come back so.
    """
    known = _fields_of(cls)
    if known is None:
        raise FormatError(f"{name} is no dataclass, NamedTuple or pydantic model any more")
    takes_more = issubclass(cls, BaseModel) and cls.model_config.get("extra") == "allow"
    if not takes_more and (gone := sorted(values.keys() - set(known))):
        raise FormatError(f"{name} has no field {gone[0]!r} any more, and the model was saved so")
    if issubclass(cls, BaseModel):
        return _model(cls, name, values)
    values = _defaults(cls) | values
    if lacking := [field for field in known if field not in values | _unset(cls)]:
        raise _lacking(name, lacking[0])
    if issubclass(cls, tuple):
        return tuple.__new__(cls, [values[field] for field in known])
    made = object.__new__(cls)
    for field, value in values.items():
        object.__setattr__(made, field, value)
    return made


def _lacking(name: str, field: str) -> FormatError:
    return FormatError(
        f"{name} has a field {field!r} by now that the saved model lacks: give it a default, or "
        "train anew"
    )


def _model(cls: type[BaseModel], name: str, values: dict[str, Any]) -> BaseModel:
    for field, info in cls.model_fields.items():
        if field not in values and info.is_required():
            raise _lacking(name, field)
    return cls.model_construct(**values)


def _unset(cls: type) -> dict[str, None]:
    """The fields that an object need not have: those that its ``__init__`` does not take."""
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return {field.name: None for field in fields if not field.init}


def _defaults(cls: type) -> dict[str, Any]:
    """The values of fields that need not be given."""
    if not dataclasses.is_dataclass(cls):
        return dict(getattr(cls, "_field_defaults", {}))
    found = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return found
