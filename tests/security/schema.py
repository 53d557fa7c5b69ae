"""Whether a JSON value matches a schema, as far as our own documents go; and values that do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

Json = Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


class Document:
    """An OpenAPI document whose schemas refer to each other."""

    def __init__(self, whole: Json) -> None:
        self.whole = whole

    def resolved(self, schema: Json) -> Json:
        while "$ref" in schema:
            found = self.whole
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema

    def wrong(self, value: Json, schema: Json, where: str = "$") -> Iterator[str]:
        """What of ``value`` does not match ``schema``."""
        schema = self.resolved(schema)
        for each in schema.get("allOf", ()):
            yield from self.wrong(value, each, where)
        choices = schema.get("anyOf") or schema.get("oneOf")
        if choices and all(any(self.wrong(value, each, where)) for each in choices):
            yield f"{where}: {value!r} is none of {choices}"
        if "enum" in schema and value not in schema["enum"]:
            yield f"{where}: {value!r} is not in {schema['enum']}"
        if "const" in schema and value != schema["const"]:
            yield f"{where}: {value!r} is not {schema['const']}"
        if "type" in schema and not _is_a(value, schema["type"]):
            yield f"{where}: {value!r} is no {schema['type']}"
            return
        if isinstance(value, dict):
            yield from self._wrong_members(value, schema, where)
        if isinstance(value, list) and "items" in schema:
            for place, item in enumerate(value):
                yield from self.wrong(item, schema["items"], f"{where}[{place}]")

    def _wrong_members(self, value: Json, schema: Json, where: str) -> Iterator[str]:
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{where}: {name} is missing"
        known = schema.get("properties", {})
        more = schema.get("additionalProperties", True)
        for name, member in value.items():
            if name in known:
                yield from self.wrong(member, known[name], f"{where}.{name}")
            elif more is False:
                yield f"{where}: {name} is unknown"
            elif more is not True:
                yield from self.wrong(member, more, f"{where}.{name}")

    def values(self, schema: Json) -> st.SearchStrategy[Json]:
        """Values that match ``schema``."""
        schema = self.resolved(schema)
        if choices := schema.get("anyOf") or schema.get("oneOf"):
            return st.one_of([self.values(each) for each in choices])
        if "enum" in schema or "const" in schema:
            return st.sampled_from(schema.get("enum") or [schema["const"]])
        make = self._makers.get(schema.get("type", ""))
        return make(schema) if make else ANYTHING

    @property
    def _makers(self) -> dict[str, Callable[[Json], st.SearchStrategy[Json]]]:
        return {
            "object": self._objects,
            "array": lambda of: st.lists(self.values(of.get("items", {})), max_size=4),
            "string": _texts,
            "integer": lambda of: st.integers(of.get("minimum"), of.get("maximum")),
            "number": _numbers,
            "boolean": lambda _: st.booleans(),
            "null": lambda _: st.none(),
        }

    def _objects(self, schema: Json) -> st.SearchStrategy[Json]:
        if "properties" in schema:
            members = {name: self.values(each) for name, each in schema["properties"].items()}
            needed = {name: members.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(needed, optional=members)
        more = schema.get("additionalProperties")
        inner = self.values(more) if isinstance(more, dict) else ANYTHING
        return st.dictionaries(st.text(max_size=5), inner, max_size=3)


def _texts(schema: Json) -> st.SearchStrategy[Json]:
    pattern = schema.get("pattern")
    return st.from_regex(re.compile(pattern, re.ASCII)) if pattern else st.text()


def _numbers(schema: Json) -> st.SearchStrategy[Json]:
    least, most = schema.get("minimum"), schema.get("maximum")
    return st.floats(least, most, allow_nan=False, allow_infinity=False)


def _is_a(value: Json, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind]) or (
        kind == "integer" and isinstance(value, float) and value.is_integer()
    )
