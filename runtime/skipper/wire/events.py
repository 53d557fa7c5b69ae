"""What an instance sends about a call that it runs: the payloads of EVENT frames.

A function may emit thousands, so these are plain tuples and JSON, read without a schema.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydantic_core import to_json

LOG = "log"
"""The type of a line of a function's log; the other types of what it emits are points."""


LINE = "line"
"""The type of a point that says what stands in a line of its output that has no end yet."""


class EmittedEvent(NamedTuple):
    """What a function emits through ``skipper.Run``: ``progress``, a ``metric`` or a ``log``."""

    type: str
    data: dict[str, Any]
    at: float
    """When, in seconds since the epoch."""

    def to_json(self) -> bytes:
        """What is sent. A number that JSON does not have is null, any other object its text."""
        type_, data, at = self
        event = {"at": at, "type": type_, "data": data}  # quicker than _asdict()
        return to_json(event, fallback=str, inf_nan_mode="null")


class LeftOut(NamedTuple):
    """How many lines and points the function has emitted that are not sent: they were too many."""

    lines: int = 0
    points: int = 0

    def to_json(self) -> bytes:
        """What is sent."""
        return to_json({"type": "left_out", "data": self._asdict()})


class SavedModel(NamedTuple):
    """A model that the task's end publishes; it is in the store under ``digest``."""

    name: str
    format: str
    digest: str
    metrics: Any
    params: Any = None

    def to_json(self) -> bytes:
        """What is sent."""
        saved = self._asdict()
        facts = {"metrics": saved.pop("metrics"), "params": saved.pop("params")}
        return to_json({"type": "model", **facts, "data": saved})


class RescuedModel(NamedTuple):
    """What there is of a model that could not be saved; a folder in the store under ``digest``."""

    name: str
    digest: str

    def to_json(self) -> bytes:
        """What is sent."""
        return to_json({"type": "rescue", "data": self._asdict()})


InstanceEvent = EmittedEvent | LeftOut | SavedModel | RescuedModel


def parse_event(payload: bytes) -> InstanceEvent | None:
    """The event that was sent; None for one that only a later version knows."""
    event = json.loads(payload)
    match event["type"]:
        case "progress" | "metric" | "log" as type_:
            return EmittedEvent(type_, event["data"], event["at"])
        case "left_out":
            return LeftOut(**event["data"])
        case "model":
            return SavedModel(metrics=event["metrics"], params=event["params"], **event["data"])
        case "rescue":
            return RescuedModel(**event["data"])
    return None
