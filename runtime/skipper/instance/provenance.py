"""Which libraries made a model, in which versions, and which of them are others by now."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata

MOST = 50
"""Libraries of one model that are kept."""


def libraries_of(kinds: Iterable[type]) -> dict[str, str]:
    """The distributions that these classes and their bases come from, each with its version."""
    packages = {
        base.__module__.partition(".")[0]
        for kind in dict.fromkeys(kinds)
        for base in kind.__mro__
        if isinstance(base.__module__, str)
    }
    foreign = sorted(packages - sys.stdlib_module_names - {"builtins"})
    found = {name for package in foreign for name in _distributions().get(package, ())}
    return {name: metadata.version(name) for name in sorted(found)[:MOST]}


@functools.cache  # because it looks through all that is installed
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def differing(made_with: Mapping[str, str]) -> str:
    """``made with keras 3.11, this is 3.14``; empty where everything is as it was."""
    return "; ".join(
        f"made with {name} {version}, {_here(name)}"
        for name, version in sorted(made_with.items())
        if version != _version(name)
    )


def _here(name: str) -> str:
    version = _version(name)
    return "which is not installed here" if version is None else f"this is {version}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
