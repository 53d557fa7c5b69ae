"""The value types of installed plugins, for a process that no runtime has started.

Such as a test or a script that imports a file of functions: there a hint means the same.
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any

from skipper.values.types import ValueType

_GROUP = "skipper"  # of hookspecs, which stand above


def find(hint: Any, marks: tuple[Any, ...]) -> ValueType | None:
    """The value type of a hint, as the first installed plugin that knows it says."""
    for plugin in _plugins():
        hook = getattr(plugin, "skipper_value_type", None)
        found: ValueType | None = hook(hint=hint, marks=marks) if hook else None
        if found is not None:
            return found
    return None


@functools.cache
def _plugins() -> tuple[Any, ...]:
    points = importlib.metadata.entry_points(group=_GROUP)
    return tuple(point.load() for point in points)
