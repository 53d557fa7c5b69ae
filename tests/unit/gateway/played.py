"""What the gateway's calls go to, played: links whose hosts answer as a test has them."""

from __future__ import annotations

import asyncio
from typing import Any

from skipper.errors import UnavailableError
from skipper.spec import BrokenFile, FunctionSpec, Kind
from skipper.wire.link import PendingCall
from skipper.wire.messages import ListedFunction

SPEC = FunctionSpec(
    name="f.f",
    kind=Kind.DATA,
    file="f.py",
    line=1,
    code="c0de",
    input_schema={},
    output_schema={},
)


class PlayedLink:
    """The way to a host that answers with ``replies``, one a call, and then not at all."""

    def __init__(self, *replies: bytes) -> None:
        self._replies = list(replies)
        self.is_up = True
        self.sent: list[PendingCall] = []
        self.payloads: list[bytes] = []
        self.cancelled: list[PendingCall] = []
        self.credits: list[int] = []

    def call(
        self, payload: bytes, deadline: float, items: asyncio.Queue[bytes | None] | None = None
    ) -> PendingCall:
        link: Any = self
        pending = PendingCall(link, len(self.sent) + 1, deadline, items)
        self.payloads.append(payload)
        self.sent.append(pending)
        if self._replies:
            pending.answer(self._replies.pop(0))
        return pending

    async def check(self, payload: bytes, limit_s: float) -> bytes:
        if not self._replies:
            raise UnavailableError(f"not within {limit_s:g} s")
        return await self.call(payload, limit_s).reply

    def credit(self, pending: PendingCall, taken: int) -> None:
        self.credits.append(taken)

    def cancel(self, pending: PendingCall) -> None:
        if pending.payload is None and pending not in self.cancelled:
            self.cancelled.append(pending)

    async def until_up(self, patience_s: float) -> None:
        self.is_up = True


class PlayedDirectory:
    """Knows the function of ``link``; without one, its file is still being read, for ever."""

    def __init__(self, link: PlayedLink | None, spec: FunctionSpec = SPEC) -> None:
        self._link, self.spec = link, spec
        self.broken_file: BrokenFile | None = None

    def get(self, name: str) -> Any:
        return (self.spec, self._link) if self._link and name == self.spec.name else None

    remembered = get

    async def find(self, name: str, patience_s: float) -> Any:
        if self._link is None:
            await asyncio.Event().wait()
        return self.get(name)

    def broken_for(self, name: str) -> BrokenFile | None:
        return self.broken_file

    def broken(self) -> list[BrokenFile]:
        return [self.broken_file] if self.broken_file else []

    def functions(self) -> list[ListedFunction]:
        return [ListedFunction(spec=self.spec)]

    async def renew_models(self) -> None:
        pass


async def settle() -> None:
    """Let what can go on without anything from outside go on."""
    for _ in range(10):
        await asyncio.sleep(0)
