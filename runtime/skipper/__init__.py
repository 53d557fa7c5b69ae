"""Skipper: a function runtime for machine learning.

Drop function files into ``functions/``, type ``skipper up``, call them over REST. This module is
what authors of functions and plugins import; each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skipper.client import AsyncClient, Client, connect
    from skipper.errors import CallError, Cancelled, ItemError, SkipperError
    from skipper.function.decorators import Function, data, inference, training
    from skipper.function.model import Loaded, Model
    from skipper.function.run import Run
    from skipper.hookspecs import Project, Source, hook

__version__ = "0.1.0"

_HOMES = {
    "skipper.client": ("AsyncClient", "Client", "connect"),
    "skipper.errors": ("CallError", "Cancelled", "ItemError", "SkipperError"),
    "skipper.function.decorators": ("Function", "data", "inference", "training"),
    "skipper.hookspecs": ("Project", "Source", "hook"),
    "skipper.function.model": ("Loaded", "Model"),
    "skipper.function.run": ("Run",),
}

__all__ = [
    "AsyncClient",
    "CallError",
    "Cancelled",
    "Client",
    "Function",
    "ItemError",
    "Loaded",
    "Model",
    "Project",
    "Run",
    "SkipperError",
    "Source",
    "connect",
    "data",
    "hook",
    "inference",
    "training",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(home), name)
            return value
    raise AttributeError(f"module 'skipper' has no attribute {name!r}")
