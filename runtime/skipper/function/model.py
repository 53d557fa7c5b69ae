"""Models as authors of functions see them: returned by training, injected into inference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from skipper import selectors
from skipper.errors import DefinitionError, NotFoundError
from skipper.function.named import REQUIRED

MAX_LOADED = 20
"""Models by name that a process keeps loaded, unless its function says otherwise."""
_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_VALUE = re.compile(r"[A-Za-z0-9_.-]{1,63}")
"""What may stand in a name: no '@', for a caller chooses the customer and not the version."""


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
    ``"boston@7"`` is always that version. With a ``default`` the function is served without a
    version, too, and is given that. ``"churn-{customer}"`` is filled from a parameter of each call;
    at most ``max_loaded`` of these are kept loaded in a process, the least recently used goes
    first. Both kinds are loaded by the first call that needs them.
    """

    name: str
    default: Any = REQUIRED
    max_loaded: int = MAX_LOADED

    def __post_init__(self) -> None:
        is_text = isinstance(self.name, str)
        selectors.parse(_FIELD.sub("x", self.name) if is_text else self.name)
        if not isinstance(self.max_loaded, int) or self.max_loaded < 1:
            raise DefinitionError(f"max_loaded={self.max_loaded!r}: write a number from 1.")

    @property
    def fields(self) -> tuple[str, ...]:
        """The parameters of a call that fill the name."""
        return tuple(_FIELD.findall(self.name))

    @property
    def is_by_call(self) -> bool:
        """Whether each call asks for it, rather than the function's start."""
        return bool(self.fields) or self.default is not REQUIRED

    def name_for(self, values: Mapping[str, Any]) -> str:
        """The model's name in a call with these values. Raises NotFoundError for what is none."""
        for field_ in self.fields:
            if not _VALUE.fullmatch(text := _text(values[field_])):
                raise NotFoundError(
                    f"{field_} = {text[:100]!r} can be no part of a model's name: letters, "
                    "digits, '.', '_' and '-' can"
                )
        name = _FIELD.sub(lambda found: _text(values[found[1]]), self.name)
        try:
            selectors.parse(name)
        except DefinitionError as error:
            raise NotFoundError(str(error)) from None
        return name


def _text(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def models_in(value: Any) -> list[Model]:
    """The models that a training returned: one, or a list, tuple or dict of them; else none.

    Raises TypeError where models stand among other things, or two have one name: what they are
    published as would not follow from what was returned.
    """
    members = [value] if isinstance(value, Model) else _members(value)
    found = [each for each in members if isinstance(each, Model)]
    if found and len(found) < len(members):
        raise TypeError(
            "models stand among other things in what was returned: return models alone, and say "
            "the rest in their metrics or params, or by run.progress and run.log"
        )
    names = [model.name for model in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(
            f"two of the returned models are called {min(twice)!r}: give each a name of its own, "
            "or save the first with run.save"
        )
    return found


def _members(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.values()]
    return [*value] if isinstance(value, list | tuple) else []


def outline(value: Any) -> Any:
    """What :func:`models_in` found models in, with their numbers in their places."""
    if isinstance(value, Model):
        return 0
    if isinstance(value, dict):
        return {str(name): number for number, name in enumerate(value)}
    return [*range(len(value))]
