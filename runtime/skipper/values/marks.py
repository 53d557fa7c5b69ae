"""What authors write into ``Annotated`` to say more about a value than its class does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_core import CoreSchema

from skipper.errors import DefinitionError
from skipper.values import crossing


@dataclass(frozen=True)
class ValueMark:
    """A mark for values of some types; it works within pydantic's models, too."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: Callable[[Any], CoreSchema]
    ) -> CoreSchema:
        found = crossing.VALUE_TYPES.find(source, (self,))
        if found is None:
            raise DefinitionError(
                f"skipper.{type(self).__name__} says nothing about {source!r}: put it beside the "
                "type itself, as in list[Annotated[TYPE, MARK]]."
            )
        return crossing.schema_of(found)


@dataclass(frozen=True)
class Array(ValueMark):
    """Beside ``numpy.ndarray``: what arrays are accepted, and what they are converted to::

        x: Annotated[np.ndarray, skipper.Array("float32", (None, 13))]

    ``dtype`` is numpy's name of one, None for any; ``shape`` has the length of each dimension, None
    for any. Floats are rounded to the dtype, all else is converted where it stays what it is: 1 to
    a float, not 0.5 to an int. Another shape is refused. Of a function with ``batch=`` the first
    dimension is the batch: a caller sends one item, without it.
    """

    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class Image(ValueMark):
    """Beside ``PIL.Image.Image``: what pictures are converted to::

        image: Annotated[PIL.Image.Image, skipper.Image("RGB", (224, 224))]

    ``mode`` is one of Pillow's, ``size`` width and height in pixels; None leaves what came.
    """

    mode: str | None = None
    size: tuple[int, int] | None = None
