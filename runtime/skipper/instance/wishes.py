"""What an instance asks its host while a call runs, and what it is answered: WISH frames.

The answer is a REPLY, as to a call: JSON, or a problem.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Record(BaseModel):
    # Built when it is first used, because few instances use any and all have to start.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class RoomForCheckpoint(_Record):
    """Would a checkpoint of ``size`` bytes be kept? Answered with nothing, or the problem."""

    what: Literal["room"] = "room"
    task_id: str
    size: int


class KeepCheckpoint(_Record):
    """Record a checkpoint that is in the store. Answered with its number."""

    what: Literal["keep"] = "keep"
    task_id: str
    digest: str
    format: str
    size: int
    refs: tuple[str, ...]
    """The blobs that it consists of."""
    progress: dict[str, Any] | None = None


class FindCheckpoints(_Record):
    """What may this attempt go on from? Answered with :class:`KeptCheckpoints`."""

    what: Literal["kept"] = "kept"
    task_id: str


class PublishModel(_Record):
    """Publish a stored model while its training goes on. Answered with its record."""

    what: Literal["publish"] = "publish"
    task_id: str
    name: str
    format: str
    digest: str
    metrics: Any
    params: Any
    step: int
    """Which of the models of this name that the task saves: the same again is the same version."""


class KeptCheckpoint(_Record):
    """A checkpoint that an earlier attempt has recorded."""

    number: int
    attempt: int
    """0 where that was an attempt of the task that this one is a copy of."""
    digest: str
    format: str
    at: float
    progress: dict[str, Any] | None


class KeptCheckpoints(_Record):
    """The newest first."""

    items: tuple[KeptCheckpoint, ...]


class FindModel(_Record):
    """Which version does this mean now? Answered with a :class:`FoundModel`, or not found."""

    what: Literal["model"] = "model"
    selector: str


class FoundModel(_Record):
    """A version of a model, in the store."""

    name: str
    version: int
    digest: str
    format: str
    generation: int
    """The number of the last FORGET frame before the host looked."""


TaskWish = RoomForCheckpoint | KeepCheckpoint | FindCheckpoints | PublishModel
AnyWish = TaskWish | FindModel


@functools.cache  # not at import, for the reason that the records are built late
def _wishes() -> TypeAdapter[AnyWish]:
    return TypeAdapter(Annotated[AnyWish, Field(discriminator="what")])


def parse_wish(payload: bytes) -> AnyWish:
    """What was asked. Raises ValueError where it is nothing that this version knows."""
    return _wishes().validate_json(payload)
