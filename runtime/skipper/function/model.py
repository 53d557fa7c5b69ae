"""Models as authors of functions see them: returned by training, injected into inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skipper import selectors


@dataclass(frozen=True)
class Model:
    """A trained model on its way to the store.

    Returned by a training function: the runtime saves ``value`` through the plugin that knows its
    type, numbers the version, and serves it. ``value`` may also be a dict, list, tuple, dataclass,
    NamedTuple or pydantic model of such parts and of plain values, which is loaded as the same
    structure, or the ``pathlib.Path`` of a file or folder, which is loaded as a path. ``metrics``
    and ``params`` (JSON) are kept with the version: what it was measured by, and made with.
    """

    name: str
    value: Any
    metrics: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        selectors.check_name(self.name)


@dataclass(frozen=True)
class Loaded:
    """Marks a keyword-only parameter that receives a model, in the version that serves::

        def predict(house: House, *, model: Annotated[keras.Model, skipper.Loaded("boston")]): ...

    ``name`` is the one that training gave it. It follows what is in production;
    ``"boston@candidate"`` (or ``previous``, ``shadow``, ``latest``, an alias) follows that, and
    ``"boston@7"`` is always that version.
    """

    name: str

    def __post_init__(self) -> None:
        selectors.parse(self.name)
