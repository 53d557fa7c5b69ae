"""Follows ``skipper.toml`` while its tree runs, and tells what a change of it comes to.

The processes of a tree have the settings that it was started with. A change is taken up by the next
start: this says so, once for each, so that nobody waits for what does not come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from skipper.errors import SettingsError
from skipper.settings.layers import FILE_NAME
from skipper.settings.model import Settings
from skipper.settings.schema import differing

LOOK_S = 0.5
"""How often the file is looked at. It is read once it has stayed the same for as long."""

FileState = tuple[int, int, int] | None
"""By what a change of a file shows: size, time of change, inode; None where there is none."""


class SettingsFile:
    """The file of a tree that runs with ``settings``. ``reread`` reads what a start now would have.

    ``log`` logs a line, without values of settings in it but those of wrong ones.
    """

    def __init__(
        self, settings: Settings, reread: Callable[[], Settings], log: Callable[[str, str], None]
    ) -> None:
        self._file = settings.project_dir / FILE_NAME
        self._running = self._seen = settings
        self._reread, self._log = reread, log
        self._read_at = self._looked_at = _state(self._file)
        self._problem = ""

    async def follow(self) -> None:
        """Look at the file, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Read the file if it is another than it was, and not just being written."""
        before, self._looked_at = self._looked_at, _state(self._file)
        if self._looked_at == before != self._read_at:
            self._read_at = before
            self._read()

    def _read(self) -> None:
        try:
            found = self._reread()
        except SettingsError as error:
            problem = "; ".join(str(error).splitlines())
            if problem != self._problem:
                self._log("error", f"{problem} The tree runs on with the settings that it has.")
            self._problem = problem
            return
        before, self._seen, self._problem = self._seen, found, ""
        self._tell(differing(before, found), differing(self._running, found))

    def _tell(self, edited: frozenset[str], pending: frozenset[str]) -> None:
        if new := edited & pending:
            self._log(
                "warning",
                f"{FILE_NAME} has changed: {', '.join(sorted(new))}. This tree runs on with what "
                "it was started with; `skipper down && skipper up` takes the file up.",
            )
        elif edited and not pending:
            self._log("info", f"{FILE_NAME} says again what this tree was started with.")
        elif edited:
            left = ", ".join(sorted(pending))
            self._log("info", f"{FILE_NAME} still differs from what this tree runs with in: {left}")


def _state(file: Path) -> FileState:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
