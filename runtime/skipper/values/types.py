"""How values of one type cross: what reads them from bytes, and what writes them.

Plugins name value types (``skipper_value_type``); the built-in ones stand in ``values/builtin.py``.
Reading and writing happen in instances alone. What a value type is given comes from callers: it
raises a ValueError, whose text callers see, for whatever is wrong with that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipper.errors import DefinitionError
from skipper.values.spool import Buffer
from skipper.values.value import JSON

__all__ = ["JSON", "Content", "ValueType", "Written", "matches"]


class Content(ABC):
    """Bytes that came: of a part, a file, a raw body."""

    media_type: str
    """Without parameters, in lower case."""
    size: int
    name: str | None
    """The file's, as its sender called it. Not a path: it may be anything."""

    @abstractmethod
    def view(self) -> memoryview:
        """All of them, read-only; mapped where they are large. Raises ValueError for lost ones."""

    def read(self) -> bytes:
        """A copy of them. Raises ValueError for lost ones."""
        return bytes(self.view())

    @abstractmethod
    def path(self) -> Path:
        """A file that has them, for as long as the call lasts; it must not be written to."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A value as bytes: those of ``buffers``, one after the other, or of the file ``path``."""

    media_type: str
    buffers: Sequence[Buffer] = ()
    path: Path | None = None
    name: str | None = None
    """What to call the file that a caller makes of it."""
    is_own: bool = False
    """Of a file: whether it is the runtime's own by now, which may move it."""


class ValueType(ABC):
    """How the values of one hint cross. One object a hint; it is asked from several threads.

    ``reads`` and ``writes`` are media types; in ``reads`` ``image/*`` stands for all of a kind.
    What is not in ``reads`` is answered 415, an ``Accept`` that nothing in ``writes`` fits 406.
    """

    name: str
    """For messages: ``an array``, ``a picture``."""
    reads: tuple[str, ...] = ()
    """Beside JSON, which every type is read from."""
    writes: tuple[str, ...] = (JSON,)
    """The first is what a caller gets who accepts anything."""
    is_base64_in_json: bool = False
    """Whether base64 of what it is read from stands for a value in JSON."""
    native: str
    """One of ``writes``, which functions send each other: quick, and nothing is lost by it."""

    @abstractmethod
    def is_value(self, value: object) -> bool:
        """Whether ``value`` is of this type already."""

    def schema(self) -> dict[str, Any]:
        """JSON schema of what stands for a value in JSON, the reference to a file left out."""
        return {"type": "string", "contentEncoding": "base64"}

    def from_json(self, data: Any) -> Any:
        """The value that plain data stands for, where that is no base64. Raises ValueError."""
        raise NotImplementedError

    @abstractmethod
    def to_json(self, value: Any) -> Any:
        """Plain data for a value, equal to it when it is read. Raises ValueError or TypeError."""

    @abstractmethod
    def read(self, content: Content) -> Any:
        """The value that these bytes are. Raises ValueError."""

    @abstractmethod
    def write(self, value: Any, media_type: str) -> Written:
        """``value`` as one of :attr:`writes`. Raises ValueError or TypeError."""

    def accepted(self, value: Any) -> Any:
        """``value``, which :meth:`is_value`, as the hint wants it. Raises ValueError."""
        return value

    # --- batches: only of types whose values can be put together

    def item(self) -> Any:
        """The hint of what one caller of a batch sends; None where a batch is a list of values."""
        return None

    def stacked(self, items: Sequence[Any]) -> Any:
        """One value of the items of a batch."""
        raise NotImplementedError

    def stacked_json(self, items: Sequence[Any]) -> Any:
        """:meth:`stacked` of what plain data of several callers stand for, in one go.

        None where each has to be read by itself, such as for what one of them is refused for: it is
        then. A value is what it would have been so.
        """
        del items
        return None

    def split(self, value: Any, count: int) -> Sequence[Any]:
        """The ``count`` items of a batch's value. Raises ValueError where it has another number."""
        raise NotImplementedError


Finder = Callable[[Any, tuple[Any, ...]], ValueType | None]
"""What finds the value type of a hint and of the marks in its ``Annotated``."""


class ValueTypes:
    """The value types that this process knows: those of the finders, the first that knows one."""

    def __init__(self, finders: Iterable[Finder] = ()) -> None:
        self._finders = tuple(finders)

    def use(self, finders: Iterable[Finder]) -> None:
        """Ask these from now on."""
        self._finders = tuple(finders)

    def find(self, hint: Any, marks: tuple[Any, ...] = ()) -> ValueType | None:
        """How values of ``hint`` cross; None for what JSON alone carries, and what nobody knows.

        Raises DefinitionError for marks that are wrong.
        """
        try:
            for finder in self._finders:
                if (found := finder(hint, marks)) is not None:
                    return found
        except ValueError as error:
            raise DefinitionError(str(error)) from None
        return None


def matches(media_type: str, patterns: Iterable[str]) -> bool:
    """Whether a media type is one of ``patterns``: ``image/png``, ``image/*`` or ``*/*``."""
    kind = media_type.partition("/")[0] + "/*"
    return any(pattern in (media_type, kind, "*/*") for pattern in patterns)
