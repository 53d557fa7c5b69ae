"""Classes by their names: how a saved model says what its parts are, and how they are found again.

What a file names is looked up in the project's modules and the installed ones; none of its bytes is
run.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

from skipper.errors import FormatError

_NAME = re.compile(r"(?P<module>\w+(?:\.\w+)*):(?P<path>\w+(?:\.\w+)*)")
_MISSING = object()


def name_of(cls: type) -> str:
    """``module:Class``, by which :func:`find` finds it.

    Raises FormatError for a class that nobody would find again.
    """
    module, path = cls.__module__, cls.__qualname__
    if "<locals>" in path:
        raise FormatError(
            f"the class {cls.__name__} is defined within a function, where a process that loads it "
            f"does not find it: move it to the top level of {module}"
        )
    if _member(sys.modules.get(module), path) is not cls:
        raise FormatError(
            f"{module} holds no class {path}, or another one of that name than this: "
            "a process that loads it would not find it"
        )
    return f"{module}:{path}"


def find(name: str) -> type:
    """The class that :func:`name_of` named. Raises FormatError where it is gone."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise FormatError(f"{name!r:.200} names no class")
    module, path = match["module"], match["path"]
    if module not in sys.modules and _may_act(module):
        raise FormatError(
            f"the class {path} of {module}, which the model names, is not looked for: modules of "
            "Python's own and programs are imported for functions alone"
        )
    try:
        found = _member(importlib.import_module(module), path)
    except ImportError as error:
        raise FormatError(f"the class {path} of {module} cannot be found: {error}") from error
    if not isinstance(found, type):
        raise FormatError(
            f"the class {path} is gone from {module}, and the model was saved with it: bring it "
            "back, or train anew"
        )
    return found


def _may_act(module: str) -> bool:
    """Whether to import a module may do more than define things, whoever has named it."""
    parts = module.split(".")
    return parts[0] in sys.stdlib_module_names or any(part.startswith("__") for part in parts)


def _member(module: Any, path: str) -> Any:
    found = module
    for name in path.split("."):
        found = getattr(found, name, _MISSING)
    return found
