"""Which functions there are, and the way to the host of this machine that serves each: its link.

Used by whoever calls functions: the gateway for its clients, a host for its instances.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from skipper.errors import UnavailableError
from skipper.spec import DIRECT_TIMEOUT_S, BrokenFile, FunctionSpec
from skipper.values.spool import Spool
from skipper.wire.link import Link
from skipper.wire.messages import LinkRole, ListedFunction, RenewModels, TryAgain

MODELS_S = 3.0
"""How long hosts may take to serve new models before a task's success is shown all the same."""
AGAIN_S = 3.0
"""How long a call waits for a file that did not load and is read again; then that goes on alone."""
SWEEP_S = 0.1


class Directory:
    """All links of one process.

    ``on_tasks`` gets ids of tasks whose record has changed, ``on_task_events`` of those that have
    new events. What lies in ``spool`` for replies that come too late is removed.
    """

    def __init__(
        self,
        run_dir: Path,
        pools: Iterable[str],
        role: LinkRole,
        *,
        spool: Spool | None = None,
        on_tasks: Callable[[list[str]], None] = lambda _: None,
        on_task_events: Callable[[list[str]], None] = lambda _: None,
    ) -> None:
        self.links = {
            pool: Link(pool, run_dir / f"{pool}.sock", role, self, spool=spool) for pool in pools
        }
        self.on_tasks, self.on_task_events = on_tasks, on_task_events
        self._changed = asyncio.Event()
        self._by_name: dict[str, tuple[FunctionSpec, Link]] = {}
        self._jobs: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Directory:
        self._jobs = [asyncio.create_task(link.run()) for link in self.links.values()]
        self._jobs.append(asyncio.create_task(self._sweep()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def on_catalogue(self) -> None:
        """What some host serves has changed, or whether this process talks to it."""
        self._by_name = {
            name: (spec, link)
            for link in self.links.values()
            for name, spec in link.functions.items()
        }
        self._changed.set()
        self._changed = asyncio.Event()

    def get(self, name: str) -> tuple[FunctionSpec, Link] | None:
        """The function and its host's link, if it is known now."""
        return self._by_name.get(name)

    def remembered(self, name: str) -> tuple[FunctionSpec, Link] | None:
        """:meth:`get`, also while a host that has served the function is started again."""
        if (found := self._by_name.get(name)) is not None:
            return found
        links = (link for link in self.links.values() if name in link.remembered)
        return next(((link.remembered[name], link) for link in links), None)

    async def find(self, name: str, patience_s: float) -> tuple[FunctionSpec, Link] | None:
        """:meth:`get`, waiting for hosts that are still reading files, at most ``patience_s``.

        A file that did not load is read again, unless that has just been tried.
        Raises UnavailableError where they are at it still, or are all of another version.
        """
        ends = time.monotonic() + patience_s
        while (found := self._by_name.get(name)) is None:
            coming = [link for link in self.links.values() if link.may_come(name)]
            if not coming:
                return await self._read_again(name)
            if all(link.incompatible for link in coming):
                raise UnavailableError(coming[0].incompatible)
            changed, left = self._changed, ends - time.monotonic()
            if left <= 0:
                raise UnavailableError(f"{name} is not known yet: its file is still being read")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), left)
        return found

    async def renew_models(self, limit_s: float = MODELS_S) -> list[str]:
        """Have every host that can be reached look for new models, and wait at most ``limit_s``.

        The pools whose hosts have not taken in by then what there is. One that cannot be reached
        looks before it is called.
        """
        up = [link for link in self.links.values() if link.is_up]
        asked = (link.ask(RenewModels(), limit_s) for link in up)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return [
            link.pool
            for link, answer in zip(up, answers, strict=True)
            if isinstance(answer, UnavailableError) and link.is_up
        ]

    def nudge(self, pool: str, task_id: str) -> None:
        """Hint to the pool's host on this machine, if there is one: it may be free for a task."""
        if (link := self.links.get(pool)) is not None:
            link.nudge(task_id)

    async def _read_again(self, name: str) -> tuple[FunctionSpec, Link] | None:
        """Have the broken file read again that would define a function; wait a moment for it."""
        if self.broken_for(name) is None:
            return None
        asked = [link.ask(TryAgain(function=name)) for link in self.links.values() if link.is_up]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), AGAIN_S)
        return self.get(name)

    def broken_for(self, name: str) -> BrokenFile | None:
        """The broken file that would define ``name``, if there is one."""
        stem = name.partition(".")[0]
        found = None
        for item in self.broken():
            if item.function not in ("", name):
                continue
            path = Path(item.file)
            if stem in (path.stem, path.parent.name if path.stem == "__init__" else None):
                if path.parts[0] == "functions":
                    return item
                found = found or item  # a plugin of that name: it may have brought functions
        return found

    def broken(self) -> list[BrokenFile]:
        """What could not be read, each file or function once."""
        found: dict[tuple[str, str], BrokenFile] = {}
        for link in self.links.values():
            for item in link.catalogue.broken if link.catalogue else ():
                # A pool that serves nothing of a file does not know which functions stay as they
                # were.
                if item.place not in found or item.functions:
                    found[item.place] = item
        return list(found.values())

    def functions(self) -> list[ListedFunction]:
        """The functions as their hosts list them, by name."""
        items = (
            item
            for link in self.links.values()
            for item in (link.catalogue.functions if link.catalogue else ())
        )
        return sorted(items, key=lambda item: item.spec.name)

    def longest_s(self) -> float:
        """How long a direct call of any function that is known may take, in seconds."""
        return max((item.spec.direct_s for item in self.functions()), default=DIRECT_TIMEOUT_S)

    def loading(self) -> list[str]:
        """Sources that some host still reads; ``*`` stands for a host that is not heard of yet."""
        return sorted({name for link in self.links.values() for name in link.loading})

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = asyncio.get_running_loop().time()
            for link in self.links.values():
                link.sweep(now)
