"""``keep_versions`` and ``keep_days`` of ``[models.NAME]``, applied from time to time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from skipper.errors import NotFoundError
from skipper.ledger import Ledger, shelf
from skipper.settings.models import ModelSettings
from skipper.tasks.keeping import keeping, pinned
from skipper.wire.directory import Directory

log = logging.getLogger(__name__)


class Shelves:
    """Removes the versions that the settings do not keep and nobody holds."""

    def __init__(
        self, ledger: Ledger, directory: Directory, models: Mapping[str, ModelSettings]
    ) -> None:
        self._ledger, self._directory = ledger, directory
        self._models = {
            name: each
            for name, each in models.items()
            if each.keep_versions is not None or each.keep_days is not None
        }

    async def clear(self, now: float) -> None:
        """Look at each model that has a rule; at none while files are read, which may pin some."""
        for name, settings in self._models.items():
            if self._directory.loading():
                return
            await self._clear(name, settings, now)

    async def _clear(self, name: str, settings: ModelSettings, now: float) -> None:
        kept = keeping(settings.keep_versions, settings.keep_days, by=f"[models.{name}]", now=now)
        pins = pinned(self._directory.functions(), name)
        clear = partial(shelf.clear, name=name, keeping=kept, pinned=pins)
        # A trial first, so that nothing is written in a round that removes nothing.
        try:
            if (await self._ledger.read(partial(clear, is_trial=True))).removed:
                cleared = await self._ledger.write(clear)
                log.info("versions %s of model %s are removed: %s", cleared.removed, name, kept.why)
        except NotFoundError:
            log.debug("there is no model %s yet", name)
