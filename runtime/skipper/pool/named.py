"""Models that instances ask for by name: which version it is, and when it may be another one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial

from skipper import selectors
from skipper.errors import DefinitionError, NotFoundError
from skipper.instance.wishes import FindModel, FoundModel
from skipper.ledger import Ledger, deployments, models
from skipper.pool.catalogue import Catalogue
from skipper.pool.processes.process import InstanceProcess, InstanceState
from skipper.wire.frames import FrameKind


class NamedModels:
    """Answers instances, and has them ask again once what they were answered has changed."""

    def __init__(self, ledger: Ledger, catalogue: Catalogue) -> None:
        self._ledger, self._catalogue = ledger, catalogue
        self._asked: set[InstanceProcess] = set()
        """Those that have asked for any, and live."""
        self._seen = self._generation = 0

    async def find(self, instance: InstanceProcess, wish: FindModel) -> bytes:
        """The answer's JSON. Raises NotFoundError, which says what trains such models."""
        if instance not in self._asked and instance.state is not InstanceState.GONE:
            self._asked.add(instance)  # before the look, so that no change is missed
            instance.gone.add_done_callback(lambda _: self._asked.discard(instance))
        generation = self._generation
        try:
            selector = selectors.parse(wish.selector)
            stored = await self._ledger.read(partial(models.resolve, selector=selector))
        except (NotFoundError, DefinitionError) as error:
            raise NotFoundError(f"{error}{self._advice(instance)}") from None
        found = FoundModel(
            name=stored.name,
            version=stored.version,
            digest=stored.digest,
            format=stored.format,
            generation=generation,
        )
        return found.model_dump_json().encode()

    def _advice(self, instance: InstanceProcess) -> str:
        source = instance.job.source
        names = self._catalogue.trainers(source.name if source else "")
        return f"; {' or '.join(names)} trains models" if names else ""

    async def refresh(self) -> None:
        """Have instances ask again for what has changed since the last look.

        A call that an instance is sent after this has returned comes after that.
        """
        seen = self._seen
        changed = await self._ledger.read(lambda conn: deployments.changed_since(conn, seen))
        if changed:
            self._seen = max(self._seen, *(each.seq for each in changed))
            self._forget(each.name for each in changed)

    def _forget(self, names: Iterable[str]) -> None:
        self._generation += 1
        payload = json.dumps([*names]).encode()
        for instance in self._asked:
            instance.send(FrameKind.FORGET, self._generation, payload)
