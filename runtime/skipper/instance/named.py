"""Models that an instance is asked for by name while a call runs: found, loaded, kept for the next.

Which version a name means, the host says; it also says when that may be another one, before any
call that was sent after the change. What is loaded is kept within a bound, the least recently used
goes first.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skipper import selectors
from skipper.errors import NotFoundError
from skipper.function.named import REQUIRED
from skipper.instance import caller
from skipper.instance.models import LoadedModels
from skipper.instance.wishes import AnyWish, FindModel, FoundModel
from skipper.wire.frames import Frame

MOST_NAMES = 10_000
"""Of so many names it is remembered what they mean, or that there is no such model."""
_FULL = 0.75
"""Of the memory that the process may take: from here on one is given up for each that is loaded."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class NoModelError(NotFoundError):
    """There is no model of the name that a call asks for."""


class NamedModels:
    """Models by name. Any thread may use it.

    ``ask`` has the host answer; at most ``most`` models are kept loaded, and fewer where the
    process comes close to ``memory_mb``, 0 for any.
    """

    def __init__(
        self,
        ask: Callable[[AnyWish], bytes],
        models: LoadedModels,
        *,
        most: int,
        memory_mb: int = 0,
    ) -> None:
        self._ask, self._models = ask, models
        self._most, self._memory = most, memory_mb << 20
        self._known: OrderedDict[str, FoundModel | str] = OrderedDict()
        """What a name means, or why it means nothing."""
        self._loaded: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._generation = 0
        self._lock = threading.RLock()

    def get(self, selector: str, default: Any = REQUIRED, *, is_own: bool) -> Any:
        """The model that ``selector`` means now, an own copy where it ``is_own``.

        ``default`` where there is none, else NoModelError. Raises as loading does.
        """
        with self._lock:
            found = self._find(selector)
            if isinstance(found, str):
                if default is REQUIRED:
                    raise NoModelError(found)
                return default
            caller.note_model(f"{found.name}@{found.version}")
            return self._load(found) if is_own else self._shared(found)

    def _find(self, selector: str) -> FoundModel | str:
        if (known := self._known.get(selector)) is not None:
            self._known.move_to_end(selector)
            return known
        found = self._asked(selector)
        generation = found.generation if isinstance(found, FoundModel) else self._generation
        # What was found before the host announced a change may be out of date by now.
        if generation >= self._generation and not _is_latest(selector):
            self._known[selector] = found
            if len(self._known) > MOST_NAMES:
                self._known.popitem(last=False)
        return found

    def _asked(self, selector: str) -> FoundModel | str:
        try:
            answer = self._ask(FindModel(selector=selector))
        except NotFoundError as error:
            return str(error)
        return FoundModel.model_validate_json(answer)

    def _shared(self, found: FoundModel) -> Any:
        key = (found.name, found.version)
        if key in self._loaded:
            self._loaded.move_to_end(key)
            return self._loaded[key]
        self._make_room()
        self._loaded[key] = value = self._load(found)
        return value

    def _make_room(self) -> None:
        while len(self._loaded) >= self._most or (self._loaded and self._is_full()):
            self._loaded.popitem(last=False)
            if len(self._loaded) < self._most:
                return  # memory may come back late: one for one

    def _is_full(self) -> bool:
        return 0 < self._memory * _FULL < resident()

    def _load(self, found: FoundModel) -> Any:
        label = f"{found.name}@{found.version}"
        return self._models.read(found.format, found.digest, f"model {label}")

    def forget(self, frame: Frame) -> None:
        """Ask again for the models that a FORGET frame names, when they are needed next."""
        names = {*json.loads(frame.payload)}
        with self._lock:
            self._generation = max(self._generation, frame.id)
            for selector in [each for each in self._known if each.partition("@")[0] in names]:
                del self._known[selector]


def _is_latest(selector: str) -> bool:
    """Whether that may change without the model's record."""
    return selector.endswith(f"@{selectors.Role.LATEST}")


def resident() -> int:
    """Bytes of this process's memory; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE
    except OSError:
        return 0


class InstanceModels:
    """The :class:`~skipper.function.named.ModelSource` of an instance's functions."""

    def __init__(self, named: NamedModels) -> None:
        self._named = named

    def shared(self, selector: str, default: Any) -> Any:
        return self._named.get(selector, default, is_own=caller.current.get().is_task)

    def own(self, selector: str, default: Any) -> Any:
        return self._named.get(selector, default, is_own=True)
