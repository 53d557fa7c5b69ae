"""Models of the task that an instance runs: into the store, and published while it goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from skipper.errors import FunctionError
from skipper.failpoints import failpoint
from skipper.function.model import Model
from skipper.instance.checkpoints import CheckpointStore
from skipper.instance.faults import shown
from skipper.instance.link import HostLink
from skipper.instance.models import LoadedModels, UnsavedModelError
from skipper.instance.wishes import PublishModel
from skipper.values.store import is_for_want_of_room
from skipper.wire.events import RescuedModel, SavedModel
from skipper.wire.frames import FrameKind

ROOM_S = 1.0
"""The pause between two attempts to save a model where the disk is full."""


@dataclass(frozen=True, kw_only=True)
class TrainedModels:
    """The models of one call of a training function."""

    link: HostLink
    models: LoadedModels
    call_id: int
    check_size: Callable[[int], None]
    """Raises TooLargeError for metrics of so many bytes that nobody could be told of them."""

    def save(self, model: Model) -> SavedModel:
        """Put a model into the store, once there is room. Raises as :meth:`LoadedModels.save`.

        TooLargeError where its metrics are. To train it again would cost more than to wait. What
        there is of one that cannot be saved is in the store, too, and the host knows of it.
        """
        metrics, params = _as_json(model.metrics), _as_json(model.params)
        self.check_size(max(len(metrics), len(params)))
        stored = self._stored(model)
        failpoint("instance.saved")
        facts = {"metrics": json.loads(metrics), "params": json.loads(params)}
        return SavedModel(name=model.name, **facts, **stored)

    def _stored(self, model: Model) -> dict[str, str]:
        while True:
            try:
                return self.models.save(model)
            except OSError as error:
                if not is_for_want_of_room(error):
                    raise
                sys.stderr.write(f"model {model.name!r} waits until there is room: {error}\n")
                time.sleep(ROOM_S)
            except UnsavedModelError as error:
                if error.rescue is not None:
                    rescued = RescuedModel(model.name, error.rescue).to_json()
                    self.link.send(FrameKind.EVENT, self.call_id, rescued)
                raise

    def announce(self, saved: SavedModel) -> None:
        """Have the host publish a stored model once the call has ended well."""
        self.link.send(FrameKind.EVENT, self.call_id, saved.to_json())


@dataclass(frozen=True, kw_only=True)
class AttemptPublications:
    """Publishes what one attempt of a task saves while it goes on."""

    trained: TrainedModels
    store: CheckpointStore
    task_id: str

    def publish(self, model: Model, step: int) -> dict[str, Any]:
        """The record of a model, once it is tried and published.

        Raises FormatError where it cannot be saved or served, and UnavailableError where the task
        is another attempt's by now.
        """
        saved = self.trained.save(model)
        wish = PublishModel(task_id=self.task_id, step=step, **saved._asdict())
        try:
            record: dict[str, Any] = json.loads(self.store.ask(wish))
        except FunctionError as error:  # as the host says that it cannot be served
            raise UnsavedModelError(str(error), None) from None
        return record


def _as_json(facts: Mapping[str, Any]) -> bytes:
    """The JSON of metrics or parameters; a loss that is no number is null: JSON has no NaN."""
    try:
        return _dumped(facts)
    except Exception:  # noqa: BLE001 - what they are is anybody's
        return _dumped({name: value for name, value in facts.items() if _can_be_told(name, value)})


def _dumped(facts: Mapping[str, Any]) -> bytes:
    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else str(value)

    return to_json(facts, fallback=plain, inf_nan_mode="null")


def _can_be_told(name: str, value: Any) -> bool:
    """Whether this one can be recorded. If not that is said: it is no reason to lose a model."""
    try:
        _dumped({name: value})
    except Exception as error:  # noqa: BLE001 - as above
        sys.stderr.write(f"{name!r:.200} of the model is left out: {shown(error)}\n")
        return False
    return True
