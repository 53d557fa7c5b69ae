"""The texts of each file as it was last read without a mistake, for the host that comes next.

They lie in the tree's folder of run time, which its user alone can open, and go with the tree: one
that is started anew serves what the project holds then.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path

from pydantic import ValidationError

from skipper.instance.jobs import JobRecord, ModuleText, SourceInfo

log = logging.getLogger(__name__)


class GoodFile(JobRecord):
    """A file of functions, with the texts that its functions consist of."""

    source: SourceInfo
    texts: tuple[ModuleText, ...]


class LastGood:
    """Keeps what one pool serves, by the names of the files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, good: GoodFile) -> None:
        """Keep this one in place of the one before."""
        file = self._file(good.source.name)
        fresh = file.with_suffix(".new")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as to:
                to.write(good.model_dump_json())
            fresh.replace(file)
        except OSError as error:  # what is served is served all the same
            log.warning("the good text of %s is not kept: %s", good.source.file, error)

    def find(self, name: str) -> GoodFile | None:
        """The file of this name as it was; None where it was never good."""
        with contextlib.suppress(OSError, ValidationError):
            return GoodFile.model_validate_json(self._file(name).read_bytes())
        return None

    def drop(self, name: str) -> None:
        """The file is gone, and what it defined with it."""
        with contextlib.suppress(OSError):
            self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        # A plugin gives its files what names it likes.
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
