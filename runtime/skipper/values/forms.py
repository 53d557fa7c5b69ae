"""Texts as JSON: the fields of forms, query parameters and the command line follow the schema.

Where a schema takes text, a text is that, whatever it looks like: ``90210`` stays one. Where it
takes none, the text is read as the JSON that it takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
_DEEPEST = 20
"""References that are followed: a schema may refer to itself."""


def from_text(schema: Schema, texts: Sequence[str], root: Schema | None = None) -> Any:
    """What stands in JSON for the value of one parameter, given as a text or as several.

    ``root`` has the definitions that ``schema`` refers to. Several texts are a list, of a
    parameter that is one; so is one alone that is no list itself. Raises ValueError for several
    where one is wanted.
    """
    whole = root or schema
    kinds = _kinds(schema, whole, 0)
    if "array" in kinds and (len(texts) > 1 or not _is_list(texts[0])):
        item = _items(schema, whole)
        if len(texts) > 1 or "string" not in kinds:
            return [from_text(item, [text], whole) for text in texts]
    if len(texts) > 1:
        raise ValueError("it is given more than once, and is no list")
    return _one(kinds, texts[0])


def properties(schema: Schema) -> Mapping[str, Any]:
    """The members of an object that a schema describes, those of any of its alternatives.

    None where it describes something else.
    """
    found: dict[str, Any] = {}
    options: list[Schema] = []
    _collect(schema, schema, options)
    for option in options:
        members = option.get("properties", {})
        for name, member in members.items() if isinstance(members, Mapping) else ():
            earlier = found.setdefault(name, member)
            if earlier != member:
                found[name] = {"anyOf": [earlier, member]}
    return found


def _collect(schema: Schema, root: Schema, options: list[Schema]) -> None:
    """Add a schema and its alternatives to ``options``, each once: they may refer to themselves."""
    found = _resolved(schema, root, 0)
    if any(found is each for each in options):
        return
    options.append(found)
    for word in ("anyOf", "oneOf", "allOf"):
        for option in found.get(word, ()):
            _collect(option, root, options)


def is_list(schema: Schema, root: Schema) -> bool:
    """Whether a schema takes lists."""
    return "array" in _kinds(schema, root, 0)


def _one(kinds: set[str], text: str) -> Any:
    if "string" in kinds or not kinds:
        return _null(text, kinds)
    try:
        value = json.loads(text)
    except ValueError:
        return text  # which is refused with the reason that the function's schema has for it
    return value if _kind_of(value) & kinds or isinstance(value, dict | list) else text


def _null(text: str, kinds: set[str]) -> Any:
    """A text, but for ``null`` where there is a null and nothing that says it means a text."""
    return None if text == "null" and "null" in kinds else text


def _is_list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


def _kind_of(value: object) -> set[str]:
    if value is None:
        return {"null"}
    if isinstance(value, bool):
        return {"boolean"}
    # A number without a fraction is an integer, however it is written.
    return {"integer", "number"} if isinstance(value, int | float) else {"string"}


def _resolved(schema: Schema, root: Schema, depth: int) -> Schema:
    reference = schema.get("$ref")
    if not isinstance(reference, str) or depth > _DEEPEST:
        return schema
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    return _resolved(found, root, depth + 1)


def _kinds(schema: Schema, root: Schema, depth: int) -> set[str]:
    """The JSON types that a schema takes; none where it takes any."""
    found = _resolved(schema, root, depth)
    if depth > _DEEPEST:
        return set()
    if isinstance(kind := found.get("type"), str):
        return {kind}
    if isinstance(kind, list):
        return set(kind)
    for word in ("anyOf", "oneOf", "allOf"):
        if options := found.get(word):
            parts = [_kinds(each, root, depth + 1) for each in options]
            return set().union(*parts) if all(parts) or word == "allOf" else set()
    values = found.get("enum", [found["const"]] if "const" in found else [])
    return set().union(*map(_kind_of, values)) if values else set()


def _items(schema: Schema, root: Schema) -> Schema:
    found = _resolved(schema, root, 0)
    for option in (found, *found.get("anyOf", ()), *found.get("oneOf", ())):
        resolved = _resolved(option, root, 0)
        if resolved.get("type") == "array" and isinstance(items := resolved.get("items"), Mapping):
            return items
    return {}
