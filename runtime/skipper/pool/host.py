"""The host process of one pool: starts its parts, runs them beside each other, drains them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from skipper import machine
from skipper import role as roles
from skipper.errors import StartError
from skipper.exits import Exit
from skipper.instance import model_folders
from skipper.ledger import Ledger
from skipper.pool.answers import Answers
from skipper.pool.checks import InputChecks
from skipper.pool.direct.lane import SWEEP_S
from skipper.pool.links import Links, Receivers
from skipper.pool.parts import assemble
from skipper.pool.presence import Presence, seat
from skipper.pool.processes.starter import Starter, Template
from skipper.pool.reading import FileReader
from skipper.pool.reload import Lanes, Reloader
from skipper.pool.schedules import Schedules
from skipper.pool.tracebacks import log_tracebacks
from skipper.pool.watch import follow
from skipper.role import Role
from skipper.settings.webhooks import interest_in
from skipper.tasks.leftovers import keep_swept, keep_tidy

log = logging.getLogger(__name__)


DRAIN_SHARE = 0.8
"""What calls and tasks may use of ``run.grace_s`` to end; instances then have the rest of"""
LAST_SHARE = 0.95
"""this, to close what they hold."""
MODELS_S = 10.0
"""How often it is looked whether files of models are there that nobody holds any more."""


class Host:
    """One pool of this machine: runs its parts, from its seat's registration to its end."""

    def __init__(self, role: Role, ledger: Ledger, first: Template | None) -> None:
        settings, pool = role.settings, role.pool
        self._role, self._settings = role, settings
        self._starter = Starter(settings.pools[pool], role.tree, first)
        host_id = f"{pool}-{secrets.token_hex(6)}"
        self._parts = parts = assemble(host_id, pool, settings, ledger, self._starter)
        self._presence = Presence(ledger, host_id, pool, parts.claimer, parts.tasks)
        self._schedules = Schedules(ledger, settings, pool, parts.catalogue)
        self._checks = InputChecks(settings, parts.catalogue.assigned, parts.instances)
        self._reloader = Reloader(
            parts.catalogue,
            FileReader(settings, pool, parts.instances),
            Lanes(direct=parts.direct, tasks=parts.tasks),
            parts.peers,
            parts.metrics,
        )
        self._links = Links(
            settings.run_dir / f"{pool}.sock",
            parts.peers,
            Receivers(
                direct=parts.direct,
                claimer=parts.claimer,
                checks=self._checks,
                answers=Answers(parts, self._reloader.again),
                spool=parts.spool,
            ),
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until ``stopping`` is set, then drain."""
        parts = self._parts
        self._check_devices()
        if limits := machine.words(machine.read()):
            log.info("pool %s may use %s of this machine", parts.pool, limits)
        async with AsyncExitStack() as stack:
            stack.callback(model_folders.sweep, self._settings.models_dir)
            stack.callback(self._starter.close)
            stack.push_async_callback(parts.instances.close)
            await self._presence.register(self._settings.project_dir)
            await parts.serving.renew()
            await self._links.open()
            stack.callback(self._links.close)
            await stack.enter_async_context(parts.directory)
            await stack.enter_async_context(_background(*self._jobs()))
            self._role.ready()
            await stopping.wait()
            whole_s = self._settings.run.grace_s
            ends, grace_s = time.monotonic() + LAST_SHARE * whole_s, DRAIN_SHARE * whole_s
            await asyncio.gather(parts.direct.close(grace_s), parts.tasks.close(grace_s))
            await parts.instances.stop(ends - time.monotonic())
            await parts.journal.close()
            await self._presence.leave()

    def _check_devices(self) -> None:
        pool = self._settings.pools[self._parts.pool]
        if pool.devices and pool.require_device and not self._parts.instances.devices:
            detail = f"pools.{self._parts.pool}.require_device is set and no GPU was found"
            raise StartError(detail, code=Exit.INVALID)

    def _jobs(self) -> Iterable[Coroutine[Any, Any, None]]:
        yield self._parts.tasks.run()
        yield self._parts.journal.run()
        yield self._presence.beat()
        yield self._sweep()
        yield self._sweep_models()
        yield keep_swept(self._parts.spool, self._parts.directory.longest_s)
        yield keep_tidy(self._parts.spool)
        yield self._parts.serving.follow()
        yield self._reloader.refresh()
        yield self._schedules.run()
        if self._settings.run.reload:
            files = self._parts.catalogue.files
            yield follow(self._settings, files, self._reloader.refresh)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            self._parts.direct.sweep(now)
            self._parts.tasks.sweep(now)
            self._checks.sweep(now)
            self._parts.instances.sweep(now)
            self._reloader.sweep(now)

    async def _sweep_models(self) -> None:
        while True:
            await asyncio.to_thread(model_folders.sweep, self._settings.models_dir)
            await asyncio.sleep(MODELS_S)


@asynccontextmanager
async def _background(*jobs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run ``jobs`` beside the block. One that fails ends the process; the launcher starts anew."""
    running = [asyncio.create_task(job) for job in jobs]
    for task in running:
        task.add_done_callback(_exit_on_failure)
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _exit_on_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a part of the host failed; it starts again", exc_info=error)
        os._exit(1)


def main(first: Template | None = None, argv: list[str] | None = None) -> None:
    """Run the host until it is signalled to stop. ``first`` is a template that has been started."""
    role = Role.start("Host of one pool", argv)
    with seat(role.settings.run_dir / f"{role.pool}.lock"):
        roles.run(role, partial(_main, first))


async def _main(first: Template | None, role: Role, stopping: asyncio.Event) -> None:
    settings = role.settings
    log_tracebacks(settings.project_dir)
    ledger = await asyncio.to_thread(
        Ledger.open,
        settings.database_url,
        schema=settings.schema,
        interest=interest_in(settings.webhooks),
    )
    with ledger:
        await Host(role, ledger, first).run(stopping)
