"""In what two versions of models differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_PLAIN = ("format", "code", "function", "state", "size")


class Difference(NamedTuple):
    """One thing in which they differ; ``change`` is by how much, where that is a number."""

    what: str
    one: Any
    other: Any
    change: str | None


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Metrics first, then parameters, what else is said of them, files."""
    return [
        *_members("metrics", one["metrics"], other["metrics"]),
        *_members("params", one["params"], other["params"]),
        *_members("libraries", one.get("libraries"), other.get("libraries")),
        *(_difference(name, one.get(name), other.get(name)) for name in _differing(one, other)),
        *map(_shortened, _members("files", _files(one), _files(other))),
    ]


def _shortened(row: Difference) -> Difference:
    """Hashes by their beginnings, which tell them apart for a person."""
    return row._replace(one=row.one and row.one[:12], other=row.other and row.other[:12])


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    return (name for name in _PLAIN if one.get(name) != other.get(name))


def _members(
    what: str, one: Mapping[str, Any] | None, other: Mapping[str, Any] | None
) -> Iterator[Difference]:
    one, other = one or {}, other or {}
    for name in dict.fromkeys((*one, *other)):
        if one.get(name) != other.get(name):
            yield _difference(f"{what}.{name}", one.get(name), other.get(name))


def _difference(what: str, one: Any, other: Any) -> Difference:
    return Difference(what, one, other, _change(one, other))


def _change(one: Any, other: Any) -> str | None:
    numbers = [each for each in (one, other) if isinstance(each, int | float)]
    if len(numbers) < 2 or isinstance(one, bool) or isinstance(other, bool):
        return None
    share = f" ({(other - one) / abs(one):+.1%})" if one else ""
    return f"{other - one:+.6g}{share}"


def _files(version: Mapping[str, Any]) -> dict[str, str]:
    return {each["path"]: each["sha256"] for each in version["files"] or ()}
