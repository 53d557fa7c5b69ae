"""Plugins that fail in the processes they are loaded into, by raising or by ending them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from skipper.pool.processes.process import PluginEndedError
from skipper.spec import BrokenFile

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Held:
    item: BrokenFile
    plugin: str
    """Its name where it must not even be loaded."""
    state: tuple[int, int]


class Quarantine:
    """What is known of failing plugins, until their files have changed."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The plugins that no instance may load."""
        return tuple(held.plugin for held in self._held.values() if held.plugin)

    @property
    def broken(self) -> list[BrokenFile]:
        """What is wrong with each of them."""
        return [held.item for held in self._held.values()]

    def add(self, error: PluginEndedError) -> bool:
        """Have the plugin at whose turn an instance ended not be loaded again.

        False where that is so already.
        """
        turn = error.turn
        if turn.plugin in self.names:
            return False
        hint = "the others work; it is tried again when its file has changed"
        detail = f"{error.reason} {turn}"
        file = str(turn.file or turn.plugin)
        self._hold(BrokenFile(file=file, error=detail, hint=hint), turn.plugin)
        return True

    def record(self, item: BrokenFile) -> None:
        """Remember a plugin that raised, and that the instance has left out by itself."""
        if item.file not in self._held:
            self._hold(item, "")

    def review(self) -> None:
        """Release those whose files have changed."""
        for file, held in list(self._held.items()):
            if _state(Path(file)) != held.state:
                del self._held[file]

    def _hold(self, item: BrokenFile, plugin: str) -> None:
        self._held[item.file] = _Held(item=item, plugin=plugin, state=_state(Path(item.file)))
        where = f"{item.file}:{item.line}" if item.line else item.file
        log.error("plugin %s is left out: %s", where, item.error, extra={"event": "broken"})


def _state(file: Path) -> tuple[int, int]:
    """Time of change and size: others mean another text."""
    try:
        stat = file.stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size
