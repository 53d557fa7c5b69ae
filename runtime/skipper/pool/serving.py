"""Instances that serve functions: started with their models, and given new ones as they come."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable
from typing import Protocol

from skipper.errors import SkipperError
from skipper.instance.jobs import ModelRef, Report
from skipper.pool.catalogue import Catalogue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.models import ServedModels
from skipper.pool.named import NamedModels
from skipper.pool.processes.instance import C, Instance, InstanceOwner
from skipper.pool.processes.instances import Instances
from skipper.pool.processes.version import FunctionVersion
from skipper.wire.link import Link
from skipper.wire.messages import RenewModels

LOOK_S = 1.0
"""New versions of models are looked for this often even if nobody says that there are any."""


class ModelTaker(Protocol):
    """An :class:`InstanceOwner`, whatever its calls are."""

    async def take_models(self, refs: Collection[ModelRef]) -> None:
        """Have all its instances serve these versions: afterwards no call is given to others."""


class Serving:
    """Starts the instances of both lanes, and keeps their models as the ledger has them.

    ``others`` are the links to this machine's other hosts.
    """

    def __init__(
        self,
        instances: Instances,
        catalogue: Catalogue,
        models: ServedModels,
        others: Iterable[Link],
        metrics: PoolMetrics,
        *,
        named: NamedModels,
    ) -> None:
        self._instances, self._catalogue, self._models = instances, catalogue, models
        self._others, self._metrics, self._named = tuple(others), metrics, named
        self._owners: set[ModelTaker] = set()
        self._turn = asyncio.Lock()

    async def start(
        self, version: FunctionVersion, owner: InstanceOwner[C]
    ) -> tuple[Instance[C], Report]:
        """Start an instance of a function. Raises as :meth:`Instances.run`."""
        started, names = time.monotonic(), version.spec.models
        self._owners.add(owner)
        instance, report = await self._instances.serve(version, owner, self._models.refs(names))
        for ref in self._models.refs(names):
            instance.take_model(ref)  # published while it was loading
        self._metrics.cold_starts[version.name].observe(time.monotonic() - started)
        return instance, report

    def untrained(self, version: FunctionVersion) -> str:
        """Why a function cannot be served for want of a model; empty where it can."""
        return self._models.untrained(version, self._catalogue.versions)

    async def renew(self) -> None:
        """Take in new versions of models: afterwards no call is given to an older one."""
        async with self._turn:  # whoever comes second waits for what the first has found
            await self._named.refresh()
            if fresh := await self._models.refresh():
                await asyncio.gather(*(owner.take_models(fresh) for owner in self._owners))

    async def announce(self) -> None:
        """Have every host of this machine take in new versions before anything else happens."""
        await self.renew()
        asked = (link.ask(RenewModels()) for link in self._others if link.is_up)
        await asyncio.gather(*asked, return_exceptions=True)

    async def follow(self) -> None:
        """Take in new versions from time to time, for ever."""
        while True:
            with contextlib.suppress(SkipperError):
                await self.renew()
            await asyncio.sleep(LOOK_S)
