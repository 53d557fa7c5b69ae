"""Models as authors of functions see them: returned by training, injected into inference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skipper.errors import DefinitionError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Model:
    """A trained model on its way to the store.

    Returned by a training function: the runtime saves ``value`` through the plugin that knows its
    type, numbers the version, and serves it. ``metrics`` (JSON) are kept with the version.
    """

    name: str
    value: Any
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True)
class Loaded:
    """Marks a keyword-only parameter that receives a model, in the version that serves::

        def predict(house: House, *, model: Annotated[keras.Model, skipper.Loaded("boston")]): ...

    ``name`` is the one that training gave it.
    """

    name: str

    def __post_init__(self) -> None:
        check_name(self.name)


def check_name(name: str) -> None:
    """Raise :class:`DefinitionError` unless ``name`` can name a model in URLs and files."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} cannot name a model: use letters, digits, '.', '_' and '-', at most 63, "
            "beginning with a letter or a digit."
        )
