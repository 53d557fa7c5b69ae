"""Whether whatever fits one JSON schema fits another, and where not. Pure.

The schemas are plain dictionaries as pydantic makes them, with ``$defs``, ``$ref``, ``anyOf`` and
types that hold themselves. A keyword that is not known here must be the same in both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

Schema = Mapping[str, Any]

_NOTES = frozenset(
    (
        *("$comment", "$defs", "$id", "$schema", "default", "deprecated", "description"),
        *("discriminator", "examples", "readOnly", "title", "writeOnly"),
    )
)
"""Keywords that refuse nothing."""
_MEMBERS = frozenset(
    ("additionalProperties", "items", "prefixItems", "properties", "required", "type")
)
_LOWER = {"minimum": -math.inf, "minLength": 0, "minItems": 0, "minProperties": 0}
_UPPER = dict.fromkeys(("maximum", "maxLength", "maxItems", "maxProperties"), math.inf)
_EXCLUSIVE = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
_JUDGED = _MEMBERS.union(_LOWER, _UPPER, _EXCLUSIVE.values(), ("enum", "const"))
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


class GapKind(StrEnum):
    """In which way something that fits one schema does not fit the other."""

    MISSING = "missing"
    """A member is asked for that the sender does not know."""
    OPTIONAL = "optional"
    """A member is asked for that the sender may leave out."""
    UNKNOWN = "unknown"
    """A member is refused because no other members are taken."""
    IGNORED = "ignored"
    """A member is let pass and not looked at."""
    OPEN = "open"
    """Members without a name are refused."""
    TYPE = "type"
    VALUES = "values"
    """Some of the values that may be sent are refused."""
    CHOICE = "choice"
    """Only some values are taken, and any may be sent."""
    LIMIT = "limit"
    """A bound, or a keyword that must be the same."""


BREAKING = frozenset(GapKind) - {GapKind.IGNORED}


class Gap(NamedTuple):
    """One place where what may be sent is not taken."""

    pointer: str
    kind: GapKind
    sent: Any = None
    taken: Any = None
    keyword: str = ""

    def below(self, prefix: str) -> Gap:
        """The same, seen from further up."""
        return self._replace(pointer=prefix + self.pointer)

    def words(self) -> dict[str, str]:
        """What a sentence about it may name."""
        name = self.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
        sent, taken = (_told(each) for each in (self.sent, self.taken))
        return {"name": f"`{name}`", "sent": sent, "taken": taken, "keyword": self.keyword}


def gaps(sent: Schema, taken: Schema) -> list[Gap]:
    """Where something that fits ``sent`` does not fit ``taken``; each once."""
    found = _Containment(sent, taken).gaps(sent, taken)
    return list({repr(gap): gap for gap in found}.values())


def members_of(schema: Schema) -> Schema:
    """The named members of an object; a reference at the root is followed."""
    return _table(resolved(schema, schema).get("properties"))


def resolved(schema: Any, root: Schema) -> Schema:
    """A schema that is no reference: what it refers to, with what else stands beside it.

    It has the definitions of ``root``, so that it is one on its own.
    """
    definitions, seen = _table(root.get("$defs")), set[str]()
    node = _table(schema)
    while isinstance(reference := node.get("$ref"), str) and reference not in seen:
        seen.add(reference)
        beside = {key: value for key, value in node.items() if key != "$ref"}
        node = {**_table(definitions.get(_name(reference))), **beside}
    return {**node, "$defs": definitions}


class _Containment:
    """One comparison. Pairs of schemas that are being compared further up are taken to fit."""

    def __init__(self, sent: Schema, taken: Schema) -> None:
        self._sent, self._taken = sent, taken
        self._open: set[tuple[str, str]] = set()
        self._leaned: set[tuple[str, str]] = set()
        """Those whose result rests on a pair that is still open: it is not kept."""
        self._known: dict[tuple[str, str], list[Gap]] = {}

    def gaps(self, sent: Any, taken: Any) -> list[Gap]:
        pair = (_text(sent), _text(taken))
        if pair in self._open:
            self._leaned.add(pair)
            return []
        if pair not in self._known:
            self._open.add(pair)
            found = self._between_unions(sent, taken)
            self._open.discard(pair)
            self._leaned.discard(pair)
            if self._leaned:
                return found
            self._known[pair] = found
        return self._known[pair]

    def _between_unions(self, sent: Any, taken: Any) -> list[Gap]:
        takers = [*_branches(taken, self._taken)]
        return [gap for each in _branches(sent, self._sent) for gap in self._refused(each, takers)]

    def _refused(self, sent: Schema, takers: list[Schema]) -> list[Gap]:
        """The gaps between one kind of value and the nearest of what is taken."""
        tried = [self._between(sent, taker) for taker in takers]
        for found in tried:
            if not any(gap.kind in BREAKING for gap in found):
                return found
        if (values := _values(sent)) is not None and len(takers) > 1:
            left = [value for value in values if not any(_allows(each, value) for each in takers)]
            return [Gap("", GapKind.VALUES, left, _types(takers))] if left else []
        near = [found for found in tried if not any(_is_whole(gap) for gap in found)]
        if near:
            return min(near, key=len)
        if len(tried) == 1:
            return tried[0]
        return [Gap("", GapKind.TYPE, _type(sent), _types(takers))]

    def _between(self, sent: Schema, taken: Schema) -> list[Gap]:
        """The gaps between two schemas without alternatives."""
        values, choice = _values(sent), _values(taken)
        if values is not None:
            left = [value for value in values if not _allows(taken, value)]
            return [Gap("", GapKind.VALUES, left, _type(taken))] if left else []
        if not _is_type_within(sent, taken):
            return [Gap("", GapKind.TYPE, _type(sent), _type(taken))]
        if choice is not None:
            return [Gap("", GapKind.CHOICE, _type(sent), choice)]
        return [
            *_limits(sent, taken),
            *_others(sent, taken),
            *self._members(sent, taken),
            *self._rest(sent, taken),
            *self._items(sent, taken),
        ]

    def _members(self, sent: Schema, taken: Schema) -> Iterator[Gap]:
        theirs, ours = _table(sent.get("properties")), _table(taken.get("properties"))
        others, always = taken.get("additionalProperties", True), _names(sent.get("required"))
        for name in _names(taken.get("required")):
            if name not in always:
                kind = GapKind.OPTIONAL if name in theirs else GapKind.MISSING
                yield Gap(_step(name), kind)
        for name, member in theirs.items():
            if name in ours:
                yield from self._at(_step(name), member, ours[name])
            elif others is False:
                yield Gap(_step(name), GapKind.UNKNOWN)
            elif isinstance(others, Mapping):
                yield from self._at(_step(name), member, others)
            else:
                yield Gap(_step(name), GapKind.IGNORED)

    def _rest(self, sent: Schema, taken: Schema) -> Iterator[Gap]:
        """Of members that the sender does not name."""
        if _type(taken) != "object":
            return
        theirs, ours = sent.get("additionalProperties"), taken.get("additionalProperties")
        if theirs is not False and ours is False:
            yield Gap("", GapKind.OPEN)
        elif isinstance(ours, Mapping) and theirs is not False:
            yield from self._at("/*", {} if theirs is None or theirs is True else theirs, ours)
        if isinstance(theirs, Mapping):
            named = _table(sent.get("properties"))
            for name, member in _table(taken.get("properties")).items():
                if name not in named:
                    yield from self._at(_step(name), theirs, member)

    def _items(self, sent: Schema, taken: Schema) -> Iterator[Gap]:
        if _type(taken) != "array":
            return
        theirs, ours = _list(sent.get("prefixItems")), _list(taken.get("prefixItems"))
        for index in range(max(len(theirs), len(ours))):
            one = theirs[index] if index < len(theirs) else sent.get("items", {})
            other = ours[index] if index < len(ours) else taken.get("items", {})
            yield from self._at(f"/{index}", one, other)
        most = sent.get("maxItems", math.inf)
        if not isinstance(most, int | float) or most > max(len(theirs), len(ours)):
            yield from self._at("/*", sent.get("items", {}), taken.get("items", {}))

    def _at(self, step: str, sent: Any, taken: Any) -> Iterator[Gap]:
        return (gap.below(step) for gap in self.gaps(sent, taken))


def _branches(schema: Any, root: Schema, seen: frozenset[str] = frozenset()) -> Iterator[Schema]:
    """The alternatives of a schema, each without alternatives of its own."""
    node = _table(schema)
    if isinstance(reference := node.get("$ref"), str):
        if reference in seen:
            return
        seen |= {reference}
        target = _table(_table(root.get("$defs")).get(_name(reference)))
        yield from _branches({**target, **_without(node, "$ref")}, root, seen)
        return
    for key in ("anyOf", "oneOf"):
        if options := _list(node.get(key)):
            for option in options:
                yield from _branches({**_without(node, key), **_table(option)}, root, seen)
            return
    if len(parts := _list(node.get("allOf"))) == 1:
        yield from _branches({**_table(parts[0]), **_without(node, "allOf")}, root, seen)
    elif types := _list(node.get("type")):
        yield from ({**node, "type": each} for each in types)
    else:
        yield node


def _limits(sent: Schema, taken: Schema) -> Iterator[Gap]:
    for keyword in (*_LOWER, *_UPPER):
        sign = 1 if keyword in _LOWER else -1
        theirs, ours = _bound(sent, keyword, sign), _bound(taken, keyword, sign)
        if ours > theirs:
            one, other = (_shown_bound(each, keyword) for each in (sent, taken))
            yield Gap("", GapKind.LIMIT, one, other, keyword)


def _bound(schema: Schema, keyword: str, sign: int) -> tuple[float, bool]:
    """A bound so that the greater is the narrower; an exclusive one is narrower than its like."""
    found = [(sign * (_LOWER | _UPPER)[keyword], False)]
    for name, is_exclusive in ((keyword, False), (_EXCLUSIVE.get(keyword, ""), True)):
        if isinstance(value := schema.get(name), int | float):
            found.append((sign * value, is_exclusive))
    return max(found)


def _shown_bound(schema: Schema, keyword: str) -> Any:
    if (value := schema.get(keyword)) is not None:
        return value
    value = schema.get(_EXCLUSIVE.get(keyword, ""))
    return "none" if value is None else f"{value} exclusive"


def _others(sent: Schema, taken: Schema) -> Iterator[Gap]:
    """Of keywords that are not judged here."""
    for keyword in taken.keys() - _JUDGED - _NOTES:
        if sent.get(keyword) != taken[keyword] and taken[keyword] is not False:
            yield Gap("", GapKind.LIMIT, sent.get(keyword, "none"), taken[keyword], keyword)


def _allows(schema: Schema, value: Any) -> bool:
    """Whether a schema takes a plain value; not, where it says more than is known here."""
    if (values := _values(schema)) is not None:
        return _text(value) in map(_text, values)
    kinds = _TYPES.get(str(schema.get("type")))
    if kinds is None:
        return "type" not in schema
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return False
    return _is_within_bounds(schema, value) and not any(_others({}, schema))


def _is_within_bounds(schema: Schema, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return True
    size = len(value) if isinstance(value, str) else value
    lower, upper = ("minLength", "maxLength") if isinstance(value, str) else ("minimum", "maximum")
    return (size, False) >= _bound(schema, lower, 1) and (-size, False) >= _bound(schema, upper, -1)


def _is_type_within(sent: Schema, taken: Schema) -> bool:
    theirs, ours = sent.get("type"), taken.get("type")
    return ours is None or theirs == ours or (theirs, ours) == ("integer", "number")


def _is_whole(gap: Gap) -> bool:
    """Whether it says that the values as such are of another type."""
    return gap.pointer == "" and gap.kind is GapKind.TYPE


def _values(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else _list(schema.get("enum")) or None


def _type(schema: Schema) -> str:
    return str(schema.get("type", "anything"))


def _types(schemas: Iterable[Schema]) -> str:
    return " or ".join(dict.fromkeys(map(_type, schemas)))


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _step(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _name(reference: str) -> str:
    name = reference.removeprefix("#/$defs/")
    return name.replace("~1", "/").replace("~0", "~")


def _without(node: Schema, key: str) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name != key}


def _table(value: Any) -> Mapping[str, Any]:
    """An object; of ``False``, which nothing fits, one that nothing fits; else one with nothing."""
    if value is False:
        return {"not": {}}
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _names(value: Any) -> list[str]:
    return [name for name in _list(value) if isinstance(name, str)]
