"""Arms failpoints, brings somebody to them, and sees who was caught."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.history import History
from tests.chaos.machine import role_of
from tests.chaos.nemesis import Nemesis
from tests.chaos.plan import Fault, Hit, How, Moment
from tests.chaos.points import provocation
from tests.chaos.tree import Tree

HIT_S, SLOW_HIT_S = 40.0, 80.0
"""How long a point may stay armed; longer where somebody has to come back first, or to sleep."""
AGAIN_S = 1.0
"""After this time another one is led there, or, by provocation:"""
_SLOW_AGAIN_S = {"host": 25.0, "scheduler": 25.0, "broker": 5.0, "stop": SLOW_HIT_S}
_LOOK_S = 0.01
TICK_S = 80.0
"""A tick comes within a minute, unless whoever is to see it has to come back first."""
_EXTRA_ENDS, _EXTRA_TICKS = 3, 1
_END = Fault(role="launcher", how="end", is_hasty=False)


class Traps:
    """A round's failpoints, armed one at a time; those of a shutdown together.

    For somebody to pass a point ``nemesis`` strikes who must be struck, and ``submit`` gives the
    driver one more task of a kind.
    """

    def __init__(
        self,
        tree: Tree,
        nemesis: Nemesis,
        history: History,
        submit: Callable[[str], None],
    ) -> None:
        self._tree, self._nemesis, self._history = tree, nemesis, history
        self._submit = submit
        self._places, self._saves = itertools.cycle((0.0, 0.5)), itertools.count(1)

    async def run(self, hits: Sequence[Hit]) -> None:
        """Have every point hit, or note that it was not."""
        at_ends = [hit for hit in hits if provocation(hit.point) == "restart"]
        at_ticks = [hit for hit in hits if provocation(hit.point) == "tick"]
        others = [hit for hit in hits if hit not in at_ends and hit not in at_ticks]
        unticked, missed = await asyncio.gather(
            self._hit_at_ticks(at_ticks), self._missed_twice(others)
        )
        for hit in [*unticked, *missed, *await self._hit_at_ends(at_ends)]:
            self._history.add("missed", role="failpoint", point=hit.point)

    async def _missed_twice(self, hits: Sequence[Hit]) -> list[Hit]:
        return await self._missed(await self._missed(hits))

    async def _missed(self, hits: Sequence[Hit]) -> list[Hit]:
        """Those that nobody passed in time."""
        return [hit for hit in hits if not await self._hit(hit)]

    async def _hit(self, hit: Hit) -> bool:
        """Arm one point and wait until it is taken; whether it was."""
        limit_s = SLOW_HIT_S if provocation(hit.point) in _SLOW_AGAIN_S else HIT_S
        taken = asyncio.Event()
        self._arm(hit)
        # Never cancelled: a broker that is struck must be started again.
        provoking = asyncio.create_task(self._provoke(hit.point, taken))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not self._see(hit, watch=True):  # noqa: ASYNC110 - another process takes it
                    await asyncio.sleep(_LOOK_S)
                taken.set()
        is_hit = taken.is_set() or self._disarm(hit, watch=True)
        taken.set()
        await provoking
        return is_hit

    async def _provoke(self, point: str, taken: asyncio.Event) -> None:
        """Bring somebody to ``point``, again and again until it is ``taken``."""
        again_s = _SLOW_AGAIN_S.get(provocation(point), AGAIN_S)
        while not taken.is_set():
            match provocation(point):
                case (
                    "work"
                    | "bulk"
                    | "relay"
                    | "once"
                    | "train"
                    | "stride"
                    | "fickle"
                    | "retry"
                    | "run" as kind
                ):
                    self._submit(kind)
                case "reload":
                    await asyncio.to_thread(self._tree.change_code, next(self._saves))
                case "instance" as role:
                    self._submit("work")  # it starts, its process dies, another one is needed
                    await self._strike(role, "kill")
                case "stop":
                    await self._strike("host", "stop")
                case "broker" if self._tree.broker and self._nemesis.to_come["broker"]:
                    pass  # it takes long to start: the blows that are planned will do
                case role:
                    await self._strike(role, "kill")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(taken.wait(), again_s)

    async def _hit_at_ticks(self, hits: Sequence[Hit]) -> list[Hit]:
        """Wait for ticks with one of each armed, until all were taken; those that never were."""
        left = list(hits)
        for _ in range(len(hits) + _EXTRA_TICKS):
            if not left:
                break
            armed = list({hit.point: hit for hit in left}.values())
            for hit in armed:
                self._arm(hit)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    for hit in armed:
                        while not self._see(hit, watch=True):  # noqa: ASYNC110 - as above
                            await asyncio.sleep(_LOOK_S)
                        left.remove(hit)
            for hit in armed:
                if hit in left and self._disarm(hit, watch=True):
                    left.remove(hit)
        return left

    async def _hit_at_ends(self, hits: Sequence[Hit]) -> list[Hit]:
        """End the tree with one of each armed, until all were taken; those that never were."""
        left = list(hits)
        for _ in range(len(hits) + _EXTRA_ENDS):
            if not left:
                break
            armed = {hit.point: hit for hit in left}.values()
            for hit in armed:
                self._arm(hit)
            await self._nemesis.strike(_END)
            for hit in armed:
                if self._disarm(hit, watch=False):
                    left.remove(hit)
        return left

    async def _strike(self, role: str, how: How) -> None:
        moment: Moment = "start" if role == "instance" else "any"
        fault = Fault(role=role, how=how, moment=moment, draw=next(self._places), is_hasty=False)
        await self._nemesis.strike(fault)

    # --- the files ---

    def _arm(self, hit: Hit) -> None:
        fresh = self._tree.failpoints / ".fresh"
        fresh.write_text(hit.action)
        fresh.replace(self._tree.failpoints / hit.point)

    def _see(self, hit: Hit, *, watch: bool) -> bool:
        """Whether the point was taken. Then it is written down by whom."""
        for path in self._tree.failpoints.glob(f"{hit.point}@*"):
            self._note(hit, path, watch=watch)
            return True
        return False

    def _disarm(self, hit: Hit, *, watch: bool) -> bool:
        """Take the point back; True where somebody had taken it before."""
        (self._tree.failpoints / hit.point).unlink(missing_ok=True)
        return self._see(hit, watch=watch)

    def _note(self, hit: Hit, path: Path, *, watch: bool) -> None:
        name, _, pid = path.name.partition("@")[2].rpartition("-")
        path.unlink()
        role = role_of(name)
        facts = {"role": role, "how": hit.how, "name": name, "pid": int(pid), "point": hit.point}
        self._history.add("hit", **facts)
        if watch and hit.how == "kill":
            self._nemesis.watch(role, name, int(pid))
