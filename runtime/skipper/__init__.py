"""Skipper: a function runtime for machine learning.

Drop function files into ``functions/``, type ``skipper up``, call them over REST. This module is
what authors of functions, plugins and clients import, and all that they are promised
(docs/api.md); each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skipper.client import (
        AsyncClient,
        AsyncTaskHandle,
        Client,
        TaskEvent,
        TaskHandle,
        connect,
    )
    from skipper.errors import (
        CallError,
        Cancelled,
        CancelledError,
        DeadlineError,
        DefinitionError,
        FormatError,
        FunctionError,
        InstanceDiedError,
        InvalidInputError,
        ItemError,
        NotConnectedError,
        NotFoundError,
        SkipperError,
        TooLargeError,
        UnavailableError,
    )
    from skipper.formats import Format, from_project
    from skipper.function.decorators import Function, data, inference, training
    from skipper.function.model import Loaded, Model
    from skipper.function.named import load
    from skipper.function.run import Run
    from skipper.hookspecs import Project, Source, hook
    from skipper.values.file import File
    from skipper.values.marks import Array, Image
    from skipper.values.types import Content, ValueType, Written

__version__ = "0.1.0"

_HOMES = {
    "skipper.client": (
        "AsyncClient",
        "AsyncTaskHandle",
        "Client",
        "TaskEvent",
        "TaskHandle",
        "connect",
    ),
    "skipper.errors": (
        "CallError",
        "Cancelled",
        "CancelledError",
        "DeadlineError",
        "DefinitionError",
        "FormatError",
        "FunctionError",
        "InstanceDiedError",
        "InvalidInputError",
        "ItemError",
        "NotConnectedError",
        "NotFoundError",
        "SkipperError",
        "TooLargeError",
        "UnavailableError",
    ),
    "skipper.formats": ("Format", "from_project"),
    "skipper.function.decorators": ("Function", "data", "inference", "training"),
    "skipper.function.model": ("Loaded", "Model"),
    "skipper.function.named": ("load",),
    "skipper.function.run": ("Run",),
    "skipper.hookspecs": ("Project", "Source", "hook"),
    "skipper.values.file": ("File",),
    "skipper.values.marks": ("Array", "Image"),
    "skipper.values.types": ("Content", "ValueType", "Written"),
}

__all__ = [
    "Array",
    "AsyncClient",
    "AsyncTaskHandle",
    "CallError",
    "Cancelled",
    "CancelledError",
    "Client",
    "Content",
    "DeadlineError",
    "DefinitionError",
    "File",
    "Format",
    "FormatError",
    "Function",
    "FunctionError",
    "Image",
    "InstanceDiedError",
    "InvalidInputError",
    "ItemError",
    "Loaded",
    "Model",
    "NotConnectedError",
    "NotFoundError",
    "Project",
    "Run",
    "SkipperError",
    "Source",
    "TaskEvent",
    "TaskHandle",
    "TooLargeError",
    "UnavailableError",
    "ValueType",
    "Written",
    "connect",
    "data",
    "from_project",
    "hook",
    "inference",
    "load",
    "training",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(home), name)
            return value
    raise AttributeError(f"module 'skipper' has no attribute {name!r}")
