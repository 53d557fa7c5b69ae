"""What the settings' model declares, read off its annotations: sections, tables, lists, secrets.

A *path* names a setting: ``("webhooks", "ops", "url")``, written ``webhooks.ops.url``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args, get_origin

from pydantic import BaseModel

from skipper.settings.masking import SECRET_TYPES, masked
from skipper.settings.model import Settings

SettingPath: TypeAlias = tuple[str, ...]
ANY = "*"
"""Stands in a schema for a name of the user's choosing."""
_FOUND_OUT = frozenset({"project_dir"})
"""Members of the model that are no settings."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting, as its annotation declares it."""

    is_list: bool
    """Written with commas in the environment."""
    is_secret: bool
    """Shown nowhere, nor is anything that stands in its place."""


Schema: TypeAlias = "Setting | Mapping[str, Schema]"


def at(path: Sequence[str]) -> Schema | None:
    """What is declared there: a setting, or a section or table with what it holds, or nothing."""
    found: Schema | None = SCHEMA
    for part in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(part, found.get(ANY))
    return found


def holds_secrets(schema: Schema) -> bool:
    """Whether what stands there is, or may hold, a secret."""
    if isinstance(schema, Setting):
        return schema.is_secret
    return any(map(holds_secrets, schema.values()))


def is_table(path: Sequence[str]) -> bool:
    """Whether it names a table of the user's naming: ``webhooks.ops``."""
    return len(path) == 2 and path[0] in TABLES


def paths(tables: Iterable[SettingPath]) -> Iterator[SettingPath]:
    """Every setting that can be named, those of the user's own ``tables`` included."""
    names = sorted(set(tables))

    def below(schema: Schema, path: SettingPath) -> Iterator[SettingPath]:
        if isinstance(schema, Setting):
            yield path
            return
        for key, inner in schema.items():
            if key != ANY:
                yield from below(inner, (*path, key))
            elif len(path) == 1:
                for table in (name for name in names if name[:1] == path):
                    yield from below(inner, table)

    return below(SCHEMA, ())


def declared_by(model: type[BaseModel]) -> Mapping[str, Schema]:
    """What a model declares, by member."""
    fields = model.model_fields.items()
    return {name: _schema_of(each.annotation) for name, each in fields if name not in _FOUND_OUT}


def leaves(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Each setting's dotted name with its value as JSON data, secrets masked."""
    return ((name, masked(value)) for name, value in _values(settings))


def differing(one: Settings, other: Settings) -> frozenset[str]:
    """The dotted names of settings that have another value in ``other``, or are in one alone.

    A table that is in one alone stands for all that is in it.
    """
    before, after = dict(_values(one)), dict(_values(other))
    shared, alone = before.keys() & after.keys(), before.keys() ^ after.keys()
    tables = _tables(one) ^ _tables(other)
    changed = {name for name in shared if before[name] != after[name]}
    inner = {name for name in alone if tuple(name.split(".")[:2]) not in tables}
    return frozenset(changed | inner | {".".join(table) for table in tables})


def _tables(settings: Settings) -> set[tuple[str, str]]:
    return {(section, name) for section in TABLES for name in getattr(settings, section)}


def _values(settings: Settings) -> Iterator[tuple[str, Any]]:
    def below(value: Any, path: SettingPath) -> Iterator[tuple[str, Any]]:
        schema = at(path)
        if isinstance(schema, Setting):
            yield ".".join(path), value
        elif schema is not None:
            for name, inner in _members(value):
                yield from below(inner, (*path, name))

    return below(settings, ())


def _members(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return sorted(value.items())
    return ((name, getattr(value, name)) for name in type(value).model_fields)


def _schema_of(annotation: Any) -> Schema:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return declared_by(annotation)
    if get_origin(annotation) is dict:
        return {ANY: _schema_of(get_args(annotation)[1])}
    classes = [part for part in _parts(annotation) if isinstance(part, type)]
    return Setting(
        is_list=any(issubclass(each, list | tuple) for each in classes),
        is_secret=any(issubclass(each, SECRET_TYPES) for each in classes),
    )


def _parts(annotation: Any) -> Iterator[Any]:
    """An annotation and all that it is made of: of ``tuple[SecretStr, ...]`` both classes."""
    yield get_origin(annotation) or annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


SCHEMA = declared_by(Settings)
TABLES = frozenset(
    section for section, inner in SCHEMA.items() if isinstance(inner, Mapping) and ANY in inner
)
"""Sections that hold a table per name that the user has chosen."""
