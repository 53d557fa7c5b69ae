"""What to write in place of an import from inside Skipper that no longer works.

Files and plugins are promised the names of :mod:`skipper` alone. Some have imported from the
modules behind them, which move: this is the one table of where each has gone.
"""

from __future__ import annotations

import re
from types import ModuleType

import skipper

MOVED = {
    "skipper.broker": "skipper.tasks.broker",
    "skipper.configuration": "skipper.settings.loading",
    "skipper.contract": "skipper.function.signature",
    "skipper.deliveries": "skipper.tasks.deliveries",
    "skipper.directory": "skipper.wire.directory",
    "skipper.discovery": "skipper.instance.discovery",
    "skipper.documents": "skipper.tasks.documents",
    "skipper.environment": "skipper.settings.environment",
    "skipper.function": "skipper.function.decorators",
    "skipper.intake": "skipper.tasks.intake",
    "skipper.logs": "skipper.role",
    "skipper.metrics": "skipper.pool.metrics",
    "skipper.model": "skipper.function.model",
    "skipper.options": "skipper.function.options",
    "skipper.plugins": "skipper.instance.plugins",
    "skipper.publisher": "skipper.tasks.publisher",
    "skipper.run": "skipper.function.run",
    "skipper.settings": "skipper.settings.model",
    "skipper.watchers": "skipper.tasks.watchers",
    "skipper.webhooks": "skipper.settings.webhooks",
    "skipper.wire": "skipper.wire.frames",
}
"""A module as an earlier version had it, and what is there of it now. Some became folders."""


def advice(error: BaseException) -> str:
    """What to write instead, where ``error`` comes of an import from inside Skipper; else empty."""
    module, name = _wanted(error)
    if name in skipper.__all__:
        return f"{module}.{name} has moved: write `from skipper import {name}`"
    if (home := MOVED.get(module)) is None:
        return f"{module} is not there; {_PUBLIC}" if module else ""
    if not name and (names := skipper._HOMES.get(home)):
        return f"{module} has moved: write `from skipper import {', '.join(names)}`"
    return f"{module} has moved to {home}, which may move again; {_PUBLIC}"


_PUBLIC = "files and plugins are promised the names of `skipper` alone: docs/api.md"


def _wanted(error: BaseException) -> tuple[str, str]:
    """The module of Skipper's, and the name in it if that is known, which were not found."""
    module, name = "", ""
    if isinstance(error, ModuleNotFoundError):
        module = error.name or ""
    elif isinstance(error, ImportError):
        # Before Python 3.12 the name that was not there stands in the message alone.
        found = re.match(r"cannot import name '(\w+)' from '[\w.]+'", str(error))
        module, name = error.name or "", found.group(1) if found else ""
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        module, name = error.obj.__name__, error.name or ""
    if module == "skipper":  # `skipper.model` as an attribute, or a name that never was
        module, name = f"skipper.{name}", ""
        return (module, name) if module in MOVED else ("", "")
    is_known = isinstance(error, ModuleNotFoundError) or module in MOVED
    return (module, name) if module.startswith("skipper.") and is_known else ("", "")
