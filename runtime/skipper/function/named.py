"""``skipper.load(name)``: a model by its name, inside a function."""

from __future__ import annotations

from typing import Any, Protocol

from skipper.errors import NotConnectedError


class Required:
    """Stands where no default is given."""

    def __repr__(self) -> str:
        return "required"


REQUIRED = Required()


class ModelSource(Protocol):
    """Whoever has models: an instance's."""

    def shared(self, selector: str, default: Any) -> Any:
        """The model that ``selector`` means now; for a task a copy of its own."""
        ...

    def own(self, selector: str, default: Any) -> Any:
        """A copy of its own in any case."""
        ...


_source: ModelSource | None = None


def load_from(source: ModelSource | None) -> None:
    """Have this process's functions load models from ``source``; None: not at all."""
    global _source  # noqa: PLW0603 - one runtime per process, set once at its start
    _source = source


def connected() -> ModelSource:
    """Where models come from. Raises NotConnectedError in a process without a runtime."""
    if _source is None:
        raise NotConnectedError(
            "Models are loaded by the runtime: call the function through it, not in this process."
        )
    return _source


def load(name: str, *, default: Any = REQUIRED) -> Any:
    """The model ``name`` in the version that is in production, as an instance's functions see it.

    ``"churn_acme@7"``, ``"churn_acme@candidate"`` and aliases, too. It is loaded when it is first
    asked for and kept in the process, the least recently used goes first; a direct call shares it
    with others and must not change it, a task is given a copy of its own. Where there is none,
    ``default``, else NotFoundError. Raises NotConnectedError outside of an instance, and what
    loading raises.
    """
    return connected().shared(name, default)
