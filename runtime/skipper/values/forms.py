"""Texts of a form, a query or a command line, read as the JSON schema of their parameter says.

A text says nothing of its type: ``90210`` is a zip code where the schema has a string, and a number
where it has one. Where both are allowed it stays a text, because nothing is lost by that.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from skipper.values.envelope import FILE_ID, REFERENCE, reference

Schema: TypeAlias = Mapping[str, Any]
_DEFINITIONS = "$defs"
_REF = "#/$defs/"
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MAX_DIGITS = 4300
"""Of a whole number: more are refused by Python, in time that grows with their square."""
_NO_NUMBERS = {"nan": "NaN", "infinity": "Infinity", "inf": "Infinity"}
_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")
_CALLED = {
    "null": "null",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a JSON array",
    "object": "a JSON object",
}
_NOTHING = object()


def from_text(schema: Schema, texts: Sequence[str], root: Schema | None = None) -> Any:
    """The plain data that ``texts``, one or several of one name, stand for by ``schema``.

    Texts stay texts where the schema allows any, whatever they look like, or says nothing; they
    become numbers, true, false or null (also what is empty) where it says so. Arrays are several
    texts, or one that is a JSON array or their only item; objects are JSON. Where a file may stand,
    the id of an uploaded one refers to it. NaN and infinities stay texts, because JSON has none.

    ``root`` has the ``$defs`` that ``schema`` refers to, where those are not its own. Raises
    ValueError, whose text says what is needed and what was found.
    """
    whole = schema if root is None else root
    options = list(_options(schema, whole.get(_DEFINITIONS, {})))
    if len(texts) == 1:
        return _one(options, texts[0], whole)
    for option in options:
        if "array" in _types(option):
            return _items(option, texts, whole)
    if not texts:
        raise ValueError("needs a value")
    if not any(map(_says_nothing, options)):
        raise ValueError("it is given more than once, and is no list")
    return list(texts)


def properties(schema: Schema) -> dict[str, Schema]:
    """The members of the object, or of any of the objects, that a schema describes.

    They may refer to its ``$defs``. None where it describes something else.
    """
    found: dict[str, list[Schema]] = {}
    for option in _options(schema, schema.get(_DEFINITIONS, {})):
        for name, member in option.get("properties", {}).items():
            known = found.setdefault(name, [])
            known += [member] if member not in known else []
    return {name: _either(members) for name, members in found.items()}


def member_schema(schema: Schema, name: str) -> Schema:
    """The schema of one member, with the ``$defs`` that it needs; it says nothing for no member."""
    definitions = schema.get(_DEFINITIONS, {})
    found = properties(schema).get(name)
    if found is None:
        others = [each.get("additionalProperties") for each in _options(schema, definitions)]
        found = _either([each for each in others if isinstance(each, Mapping)])
    return {**found, _DEFINITIONS: definitions}


def is_list(schema: Schema, root: Schema) -> bool:
    """Whether a schema takes arrays."""
    return any("array" in _types(each) for each in _options(schema, root.get(_DEFINITIONS, {})))


def is_free(schema: Schema) -> bool:
    """Whether a schema says nothing, so that a text may stand for anything."""
    return any(map(_says_nothing, _options(schema, schema.get(_DEFINITIONS, {}))))


def _either(schemas: Sequence[Schema]) -> Schema:
    if len(schemas) > 1:
        return {"anyOf": schemas}
    return schemas[0] if schemas else {}


def _options(
    schema: Any, definitions: Schema, passed: frozenset[str] = frozenset()
) -> Iterator[Schema]:
    """The alternatives that a schema comes down to, each without a reference."""
    if not isinstance(schema, Mapping):
        schema = {}
    reference_to = schema.get("$ref")
    if isinstance(reference_to, str):
        if reference_to not in passed:  # what refers to itself adds nothing
            defined = definitions.get(reference_to.removeprefix(_REF), {})
            yield from _options(defined, definitions, passed | {reference_to})
        return
    several = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if not several or "properties" in schema:
        yield schema
    for each in several or ():
        yield from _options(each, definitions, passed)


def _types(option: Schema) -> tuple[str, ...]:
    kind = option.get("type", ())
    return (kind,) if isinstance(kind, str) else tuple(kind)


def _says_nothing(option: Schema) -> bool:
    return not _types(option) and _choices(option) is None


def _choices(option: Schema) -> list[Any] | None:
    return [option["const"]] if "const" in option else option.get("enum")


def _one(options: Sequence[Schema], text: str, whole: Schema) -> Any:
    """One text, as the first of the alternatives that it can be, the surest first."""
    readers: tuple[Callable[[Schema, str, Schema], Any], ...] = (
        _choice,
        _string,
        _file,
        _base64,
        _numeric,
        _boolean,
        _json,
        _single,
    )
    for read in readers:
        for option in options:
            if (value := read(option, text, whole)) is not _NOTHING:
                return value
    raise ValueError(f"needs {_needed(options)}, not {_shown(text)}")


def _choice(option: Schema, text: str, whole: Schema) -> Any:
    del whole
    for value in _choices(option) or ():
        if text == value or (not isinstance(value, str) and text == json.dumps(value)):
            return value
    return _NOTHING


def _string(option: Schema, text: str, whole: Schema) -> Any:
    del whole
    is_free = "string" in _types(option) and _choices(option) is None
    return text if is_free and "contentEncoding" not in option else _NOTHING


def _file(option: Schema, text: str, whole: Schema) -> Any:
    del whole
    is_reference = tuple(option.get("properties", ())) == (REFERENCE,)
    is_id = text.isascii() and FILE_ID.fullmatch(text.encode())
    return reference(text) if is_reference and is_id else _NOTHING


def _base64(option: Schema, text: str, whole: Schema) -> Any:
    """What stands for bytes: never a JSON object, which may be the reference to a file."""
    del whole
    is_encoded = "string" in _types(option) and "contentEncoding" in option
    return text if is_encoded and not text.lstrip().startswith("{") else _NOTHING


def _numeric(option: Schema, text: str, whole: Schema) -> Any:
    del whole
    types = _types(option) if _choices(option) is None else ()
    if "null" in types and text.strip() in ("", "null"):
        return None
    value = _number(text.strip(), is_whole=True) if "integer" in types else _NOTHING
    if value is _NOTHING and "number" in types:
        return _number(text.strip(), is_whole=False)
    return value


def _boolean(option: Schema, text: str, whole: Schema) -> Any:
    del whole
    is_boolean = "boolean" in _types(option) and _choices(option) is None
    bare = text.strip().lower()
    return bare in _TRUE if is_boolean and bare in (*_TRUE, *_FALSE) else _NOTHING


def _number(text: str, *, is_whole: bool) -> Any:
    if not is_whole and (name := _NO_NUMBERS.get(text.lower().lstrip("+-"))):
        return f"-{name}" if text.startswith("-") and name != "NaN" else name
    if not _NUMBER.fullmatch(text) or len(text) > _MAX_DIGITS:
        return _NOTHING
    if text.lstrip("+-").isdigit():
        return int(text)
    value = float(text)
    if math.isinf(value) or (is_whole and not value.is_integer()):
        return _NOTHING
    return int(value) if is_whole else value


def _json(option: Schema, text: str, whole: Schema) -> Any:
    """A JSON array or object."""
    del whole
    types = _types(option)
    if _says_nothing(option):
        return text
    if "array" not in types and "object" not in types:
        return _NOTHING
    value = _parsed(text)
    kind = "array" if isinstance(value, list) else "object" if isinstance(value, dict) else ""
    return value if kind in types else _NOTHING


def _single(option: Schema, text: str, whole: Schema) -> Any:
    """The only item of an array; a text that is none of a string's choices, which is said later."""
    if "array" in _types(option):
        is_text = not text.lstrip().startswith("[") or "string" in _item_types(option, whole)
        return _items(option, [text], whole) if is_text else _NOTHING
    return text if "string" in _types(option) and "contentEncoding" not in option else _NOTHING


def _item_types(option: Schema, whole: Schema) -> list[str]:
    options = _options(option.get("items", {}), whole.get(_DEFINITIONS, {}))
    return [kind for each in options for kind in _types(each)]


def _items(option: Schema, texts: Sequence[str], whole: Schema) -> list[Any]:
    first = option.get("prefixItems", ())
    items: list[Any] = []
    for index, text in enumerate(texts):
        item = first[index] if index < len(first) else option.get("items", {})
        try:
            items.append(from_text(item if isinstance(item, Mapping) else {}, [text], whole))
        except ValueError as error:
            if len(texts) == 1:
                raise ValueError(f"{error} (or a JSON array)") from None
            raise ValueError(f"value {index + 1}: {error}") from None
    return items


def _parsed(text: str) -> Any:
    """JSON, without what Python's parser takes beyond it. Raises ValueError for a deep one."""
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:
        return _NOTHING


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text} is too large")
    return value


def _needed(options: Sequence[Schema]) -> str:
    needed: list[str] = []
    for option in options:
        choices = _choices(option)
        if choices is not None:
            needed += (json.dumps(each, ensure_ascii=False) for each in choices)
        elif "contentEncoding" in option:
            needed.append("base64")
        else:
            needed += (_CALLED[each] for each in _types(option) if each in _CALLED)
    return " or ".join(dict.fromkeys(needed)) or "another value"


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}…"


# --- what may stand at a place, for those who send values


def item_schema(schema: Schema) -> Schema:
    """The schema of an array's items, with the ``$defs`` that it needs."""
    definitions = schema.get(_DEFINITIONS, {})
    found = [each.get("items") for each in _options(schema, definitions)]
    return {
        **_either([each for each in found if isinstance(each, Mapping)]),
        _DEFINITIONS: definitions,
    }


def takes_file(schema: Schema) -> bool:
    """Whether an uploaded file may stand there."""
    options = _options(schema, schema.get(_DEFINITIONS, {}))
    return any(tuple(each.get("properties", ())) == (REFERENCE,) for each in options)


def takes_base64(schema: Schema) -> bool:
    """Whether base64 stands for bytes there."""
    options = _options(schema, schema.get(_DEFINITIONS, {}))
    return any(each.get("contentEncoding") == "base64" for each in options)


def own_bytes(schema: Schema, data: bytes) -> str | None:
    """``data`` as a model wants bytes that says so itself; None where none are wanted.

    Raises ValueError for what is not UTF-8, where it wants them so.
    """
    ways = {each.get("format") for each in _options(schema, schema.get(_DEFINITIONS, {}))}
    if "base64url" in ways:
        return base64.urlsafe_b64encode(data).decode()
    return data.decode() if "binary" in ways else None
