"""Instances that serve functions, each with the versions of models that serve as it starts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from skipper.errors import SkipperError
from skipper.instance.jobs import ModelRef, Report, UnfitModel
from skipper.pool.catalogue import Catalogue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.models import Candidate, ServedModels
from skipper.pool.named import NamedModels
from skipper.pool.processes.instance import C, Instance, InstanceOwner
from skipper.pool.processes.instances import Instances
from skipper.pool.processes.process import ModelEndedError
from skipper.pool.processes.version import Edition, FunctionVersion
from skipper.wire.link import Link
from skipper.wire.messages import RENEW_S, RenewModels, UnfitVersion

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""New versions of models are looked for this often even if nobody says that there are any."""
ANNOUNCE_S = 30.0
"""How long a new version may take to be ready before its training is seen to have succeeded."""
ANSWER_S = 1.0
"""How much longer another host may take to say so."""


class UnfitError(SkipperError):
    """A version of a model does not load, and serves nobody on this host."""

    def __init__(self, unfit: UnfitModel) -> None:
        super().__init__(f"the model {unfit.ref.label} does not load: {unfit.reason}")


class Follower(Protocol):
    """Whoever has calls of functions go to what serves by now."""

    def follow(self) -> None:
        """Begin to have calls go there: as soon as it is ready."""

    async def settle(self, limit_s: float) -> None:
        """Have all calls go there: when this returns, none is given to what served before.

        What is not ready within ``limit_s`` they wait for.
        """


class Serving:
    """Starts the instances of both lanes, and says which versions of models are theirs.

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
        self._followers: list[Follower] = []
        self._holding: Counter[str] = Counter()
        """By version of a model: the instances that have loaded it and live."""
        self._turn = asyncio.Lock()

    def tell(self, follower: Follower) -> None:
        """From now on, tell of what serves."""
        self._followers.append(follower)

    # --- what serves

    async def learn(self, version: FunctionVersion) -> None:
        """Follow the models of a function from now on."""
        with contextlib.suppress(SkipperError):  # the next look will find them
            await self._models.learn(version.spec.models)

    def edition(self, version: FunctionVersion) -> Edition:
        """A function with the versions of models that it is to be served with now."""
        return Edition(version, self._models.refs(version.spec.models, _user(version)))

    def wanted(self, version: FunctionVersion) -> Edition:
        """:meth:`edition`, with the versions in production that may be tried again."""
        now = time.monotonic()
        return Edition(version, self._models.wanted(version.spec.models, _user(version), now))

    def deployments(self, version: FunctionVersion) -> bytes:
        """The records of deployments that a function follows, as FOLLOWS frames have them."""
        return " ".join(self._models.deployments(version.spec.models)).encode()

    def candidate(self, version: FunctionVersion) -> Candidate | None:
        """What a part of a function's calls is to be served with; None where nothing is."""
        now = time.monotonic()
        return self._models.candidate(version.spec.models, _user(version), now)

    def keep(self, version: FunctionVersion) -> int:
        """How many editions stay loaded beside the one that its calls go to."""
        return self._models.keep(version.spec.models)

    def unfit_versions(self) -> list[UnfitVersion]:
        """The versions of models that are in production and do not load here."""
        return self._models.unfit_versions()

    def untrained(self, version: FunctionVersion) -> str:
        """Why a function cannot be served for want of a model; empty where it can."""
        return self._models.untrained(version, self._catalogue.trainers(version.source.name))

    # --- instances

    async def start(
        self, edition: Edition, owner: InstanceOwner[C], *, gives_way: bool = False
    ) -> tuple[Instance[C], Report]:
        """Start an instance of a function. Raises as :meth:`Instances.run`, and UnfitError.

        One that nobody waits for ``gives_way`` to others until it is ready.
        """
        started = time.monotonic()
        try:
            instance, report = await self._instances.serve(edition, owner, gives_way=gives_way)
        except ModelEndedError as error:
            raise self._condemned(UnfitModel(ref=error.ref, reason=error.reason)) from None
        if report.unfit:
            instance.stop()
            raise self._condemned(report.unfit[0])
        if not report.broken and instance.is_alive:
            self._has_loaded(edition, instance)
        self._metrics.cold_starts[edition.version.name].observe(time.monotonic() - started)
        return instance, report

    def condemn(self, version: FunctionVersion, refs: Iterable[ModelRef], reason: str) -> None:
        """Have these versions answer no call of a function, which does not start with them."""
        for ref in refs:
            self._condemn(ref, reason, _user(version))

    def _condemned(self, unfit: UnfitModel) -> UnfitError:
        # What serves well is not taken away because one more instance did not come up.
        if not self._holding[unfit.ref.label]:
            self._condemn(unfit.ref, unfit.reason)
        return UnfitError(unfit)

    def _condemn(self, ref: ModelRef, reason: str, user: str = "") -> None:
        level = logging.DEBUG if self._models.reason(ref, user) else logging.ERROR
        self._models.condemn(ref, reason, user)
        text = "model %s does not load and serves %s here: %s"
        whom = f"no call of {user}" if user else "nobody"
        log.log(level, text, ref.label, whom, reason, extra={"event": "unfit"})

    def _has_loaded(self, edition: Edition, instance: Instance[C]) -> None:
        labels = [ref.label for ref in edition.models]
        self._holding.update(labels)
        instance.gone.add_done_callback(lambda _: self._holding.subtract(labels))
        for ref in self._models.approve(edition.models, _user(edition.version)):
            log.info("model %s loads again", ref.label, extra={"event": "fit"})

    # --- changes

    async def renew(self, limit_s: float = RENEW_S) -> None:
        """Take in which versions of models are to serve: afterwards no call is given to others.

        What is not ready within ``limit_s`` calls wait for.
        """
        await self._look()
        await asyncio.gather(*(each.settle(limit_s) for each in self._followers))

    async def announce(self) -> None:
        """:meth:`renew` on every host of this machine, before anything else happens.

        For a new version, which nobody knows of yet: so all have time to load it.
        """
        question, limit_s = RenewModels(limit_s=ANNOUNCE_S), ANNOUNCE_S + ANSWER_S
        asked = (link.ask(question, limit_s) for link in self._others if link.is_up)
        await asyncio.gather(self.renew(ANNOUNCE_S), *asked, return_exceptions=True)

    async def follow(self) -> None:
        """Take in from time to time which versions are to serve, for ever."""
        while True:
            with contextlib.suppress(SkipperError):
                await self._look()
            for each in self._followers:
                each.follow()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        async with self._turn:  # whoever comes second waits for what the first has found
            await self._named.refresh()
            await self._models.refresh()


def _user(version: FunctionVersion) -> str:
    """Who may fail with a model that others are served with: this code of this function."""
    return f"{version.name} {version.spec.code}"
