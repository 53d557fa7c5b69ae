"""How functions call others: what becomes of a reply whose caller has stopped waiting."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from skipper.instance.caller import HostCaller
from skipper.outcomes import Outcome
from skipper.values.envelope import Envelope, Part, pack
from skipper.values.opening import Places
from skipper.values.spool import Spool
from skipper.wire import calls
from skipper.wire.frames import Frame, FrameKind

LIMIT_S = 10.0


class SlowLink:
    """A link to a host that answers once a test lets it."""

    def __init__(self, payload: bytes) -> None:
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.sent: list[tuple[int, int]] = []
        self._payload = payload

    def ask(self, payload: bytes) -> int:
        return 7

    def send(self, kind: int, id_: int, payload: bytes = b"") -> None:
        self.sent.append((kind, id_))

    def wait_for(self, id_: int) -> Frame:
        self.asked.set()
        assert self.may_answer.wait(LIMIT_S)
        return Frame(FrameKind.REPLY, id_, self._payload)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def large(spool: Spool) -> bytes:
    part = Part(media_type="image/png", size=5, spool=spool.put(b"large"))
    return calls.reply(Outcome.OK, b"", pack(Envelope(parts=(part,))))


@pytest.mark.parametrize("is_good", [True, False])
async def test_what_comes_after_its_caller_was_cancelled_is_removed(
    spool: Spool, is_good: bool
) -> None:
    payload = large(spool) if is_good else calls.problem(Outcome.FAILED, "no")
    link: Any = SlowLink(payload)
    calling = asyncio.ensure_future(
        HostCaller(link, places=Places(spool=spool)).call_async("g.g", b"{}")
    )
    await asyncio.to_thread(link.asked.wait, LIMIT_S)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert link.sent == [(FrameKind.CANCEL, 7)]
    link.may_answer.set()
    async with asyncio.timeout(LIMIT_S):
        while list(spool.folder.glob("*")):  # noqa: ASYNC110 - a file is no event
            await asyncio.sleep(0.001)


async def test_a_reply_in_time_is_its_callers_to_open(spool: Spool) -> None:
    link: Any = SlowLink(large(spool))
    link.may_answer.set()
    body = await HostCaller(link, places=Places(spool=spool)).call_async("g.g", b"{}")
    (name,) = calls.spooled_in_reply(calls.reply(Outcome.OK, b"", body))
    assert bytes(spool.view(name)) == b"large"
