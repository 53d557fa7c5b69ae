"""The memory of one gateway process for large bodies and for answers that callers have yet to read.

An account, and no more: whoever is about to hold many bytes claims them first, and gives the claim
back with them. Knows no HTTP. What has at most :data:`SMALL` bytes is not counted: the number of
connections bounds it.

A body waits until there is room for it. An answer is there already and cannot: for it, and for
bodies that wait, those are cut who have claims and do not get on.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from enum import Enum
from typing import Self

from skipper import problems
from skipper.gateway.problems import Problem

SMALL = 64 << 10
PATIENCE_S = 10.0
"""How long a body waits for room. Most callers are patient for longer, and come back by then."""
STALL_S = 5.0
"""Who has not got on for so long may be cut where others want the room; longer than a network's
hiccup, and than a client's pause to handle what it has read."""
PROGRESS = 16 << 10
"""Bytes that a caller must send or take in that time, all the rest apart: not one now and then."""
LOOK_S = 0.25
"""How often is looked whether what waits can go on."""
_OF_BODIES = 0.75
"""The part of the room that bodies may take, because to refuse an answer is to waste its call."""


class Use(Enum):
    """What memory is claimed for."""

    BODY = "bodies"
    ANSWER = "answers"


class MemoryClaim:
    """Some bytes of the account, until they are given back; a context manager does so.

    ``on_cut`` is called if its holder has to make room: the claim is at an end then.
    """

    __slots__ = ("_mark", "budget", "moved_at", "on_cut", "size", "use")

    def __init__(self, budget: Budget, use: Use, size: int, on_cut: Callable[[], None]) -> None:
        self.budget, self.use, self.size, self.on_cut = budget, use, size, on_cut
        self._mark, self.moved_at = 0, budget.now()

    def gets_on(self, done: int) -> None:
        """So many bytes have been received, or taken by the caller, by now."""
        if done - self._mark >= PROGRESS:
            self._mark, self.moved_at = done, self.budget.now()

    def is_whole(self, size: int) -> None:
        """All of a body is there, of this size. Nobody waits for its caller: it is not cut."""
        self.moved_at = math.inf
        self.budget.give_back(self, max(0, self.size - size))

    def release(self) -> None:
        """Nothing is held any more. Changes nothing the second time."""
        self.budget.end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class _Waiting:
    """A body for which there is no room yet."""

    __slots__ = ("claim", "granted", "since")

    def __init__(self, claim: MemoryClaim, now: float) -> None:
        self.claim, self.since = claim, now
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Budget:
    """What there is of ``room``, in bytes, and who has it. A body has at most ``largest`` bytes."""

    def __init__(
        self,
        room: int,
        largest: int,
        *,
        patience_s: float = PATIENCE_S,
        stall_s: float = STALL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.room, self.now = room, clock
        self._largest = largest
        self._patience_s, self._stall_s = patience_s, stall_s
        self._claims: dict[MemoryClaim, None] = {}
        self._waiting: dict[_Waiting, None] = {}
        """In the order in which they came."""
        self._timer: asyncio.TimerHandle | None = None
        self._taken = dict.fromkeys(Use, 0)
        self.cut = 0
        """How many were cut so far."""

    def taken(self, use: Use) -> int:
        """Bytes that are claimed for this."""
        return self._taken[use]

    @property
    def waiting(self) -> int:
        """Bodies that wait for room."""
        return len(self._waiting)

    # --- claims

    def answer(self, size: int, on_cut: Callable[[], None]) -> MemoryClaim:
        """Room for an answer. Raises Problem where there is none, and nobody to be cut for it."""
        claim = MemoryClaim(self, Use.ANSWER, size, on_cut)
        if not self._fits(claim) and not self._make_room(claim):
            raise self._full("the answer cannot be held until it is read")
        self._grant(claim)
        return claim

    async def body(
        self, size: int | None, on_cut: Callable[[], None], largest: int | None = None
    ) -> MemoryClaim:
        """Room for a body, as soon as there is some. Raises Problem where that takes too long.

        One of unknown size may become as large as any, or as ``largest``. Were its room to grow
        with it, many could come to wait for each other with half a body each.
        """
        most = largest or self._largest
        size = most if size is None else min(size, most)
        claim = MemoryClaim(self, Use.BODY, size, on_cut)
        if self._fits(claim) and self._may_overtake():
            self._grant(claim)
            return claim
        waiting = _Waiting(claim, self.now())
        self._waiting[waiting] = None
        self._look_later()
        try:
            await waiting.granted
        except BaseException:
            claim.release()  # it may have been granted just before its caller left
            raise
        finally:
            self._waiting.pop(waiting, None)
        return claim

    def give_back(self, claim: MemoryClaim, size: int) -> None:
        """A part of a claim is needed no more."""
        if claim in self._claims:
            claim.size -= size
            self._taken[claim.use] -= size
            self._serve()

    def end(self, claim: MemoryClaim) -> None:
        """A claim is needed no more."""
        if claim in self._claims:
            self._drop(claim)
            self._serve()

    # --- room

    def look(self) -> None:
        """See to what waits: cut who does not get on, and refuse what has waited for too long."""
        self._timer, now = None, self.now()
        for waiting in list(self._waiting):
            if now - waiting.since >= self._patience_s:
                self._settle(waiting, self._full("there is no room for its body"))
        if first := next(iter(self._waiting), None):
            self._make_room(first.claim)
        self._serve()
        if self._waiting:
            self._look_later()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self.look)

    def _fits(self, claim: MemoryClaim, freed: int = 0) -> bool:
        """Whether there is room, with so much freed. What is larger than all may have it alone."""
        most = self.room if claim.use is Use.ANSWER else int(self.room * _OF_BODIES)
        taken = sum(self._taken.values()) - freed
        return taken <= 0 or taken + claim.size <= most

    def _may_overtake(self) -> bool:
        """Whether a body may go before those that wait: a large one must have its turn, too."""
        first = next(iter(self._waiting), None)
        return first is None or self.now() - first.since < self._patience_s / 2

    def _make_room(self, claim: MemoryClaim) -> bool:
        """Cut holders who do not get on, the longest first, until there is; none in vain."""
        limit = self.now() - self._stall_s
        stalled = [each for each in self._claims if each.moved_at <= limit]
        if not self._fits(claim, sum(each.size for each in stalled)):
            return False
        for each in sorted(stalled, key=lambda each: each.moved_at):
            if self._fits(claim):
                break
            self._drop(each)
            self.cut += 1
            each.on_cut()
        return True

    def _grant(self, claim: MemoryClaim) -> None:
        claim.moved_at = self.now()
        self._claims[claim] = None
        self._taken[claim.use] += claim.size

    def _drop(self, claim: MemoryClaim) -> None:
        del self._claims[claim]
        self._taken[claim.use] -= claim.size

    def _serve(self) -> None:
        """Let go on what waits and has room."""
        for waiting in list(self._waiting):
            if waiting.granted.done():  # its caller has left
                continue
            if self._fits(waiting.claim):
                self._grant(waiting.claim)
                self._settle(waiting)
            elif not self._may_overtake():
                break

    def _settle(self, waiting: _Waiting, problem: Problem | None = None) -> None:
        self._waiting.pop(waiting, None)
        if waiting.granted.done():
            return
        if problem is None:
            waiting.granted.set_result(None)
        else:
            waiting.granted.set_exception(problem)

    def _full(self, what: str) -> Problem:
        held = sum(self._taken.values()) / (1 << 20)
        detail = (
            f"{what}: bodies and unread answers take {held:.1f} of {self.room / (1 << 20):g} MiB "
            "(gateway.memory_mb)"
        )
        return Problem(problems.UNAVAILABLE, detail)
