"""Mutants against a running tree: over HTTP, and over the socket of a host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from skipper.wire import frames
from skipper.wire.calls import CallHead, call_head
from skipper.wire.frames import FrameKind
from tests.acceptance.tree import Tree
from tests.security.mutations.findings import Findings
from tests.security.mutations.mutants import Mutants

AT_ONCE = 64
"""Connections."""
QUIET_S = 0.3
"""A mutant whose end is yet to come is left after so long."""
ANSWER_S = 30.0
LAST = b"GET /livez HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"
"""Sent after each mutant: where that was whole, this ends the connection."""
GOOD_ID = 1 << 32
_ADD = call_head(CallHead(10_000, 0, 0, "bodies.add", "an-id")) + b'{"x": 1}'


def over_http(port: int, seed: int, cases: int) -> Findings:
    """Send requests to the gateway on this port, each over a connection of its own."""

    async def one(mutants: Mutants, findings: Findings) -> None:
        host = b"127.0.0.1:%d" % port
        case = mutants.request(host)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError):
            for segment in [*mutants.segments(case), LAST % host]:
                writer.write(segment)
                await writer.drain()
        findings.answered(case, await _until_quiet(reader))
        writer.transport.abort()

    return asyncio.run(_driven(one, seed, cases))


def over_link(path: Path, seed: int, cases: int) -> Findings:
    """Send frames to the host behind this socket, each time with a good call after them."""

    async def one(mutants: Mutants, findings: Findings) -> None:
        case = mutants.frames()
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(mutants.hello() + case)
        writer.write(frames.pack(FrameKind.CALL, GOOD_ID, _ADD))
        out = await _until_quiet(reader, lambda out: GOOD_ID in _ids(out))
        findings.answers["answered" if GOOD_ID in _ids(out) else "nothing"] += 1
        writer.transport.abort()

    return asyncio.run(_driven(one, seed, cases))


def _ids(out: bytes) -> set[int]:
    """The ids of the replies that have come."""
    return {each.id for each in frames.Splitter().feed(out) if each.kind == FrameKind.REPLY}


async def _driven(
    one: Callable[[Mutants, Findings], Awaitable[None]], seed: int, cases: int
) -> Findings:
    findings, left = Findings(cases=cases), iter(range(cases))
    mutants = Mutants(seed)

    async def caller() -> None:
        for _ in left:
            await one(mutants, findings)

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return findings


async def _until_quiet(
    reader: asyncio.StreamReader, is_all: Callable[[bytes], bool] = lambda _: False
) -> bytes:
    """What comes until the connection ends, or nothing more does."""
    out = b""
    with contextlib.suppress(OSError):
        while not is_all(out):
            piece = await asyncio.wait_for(reader.read(1 << 16), QUIET_S)
            if not piece:
                break
            out += piece
    return out


class Watch:
    """A tree, as it was before it was sent anything wrong."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._pids, self._output, self._died = tree.pids(), len(tree.output), self._deaths()

    def look(self, findings: Findings) -> None:
        """Its processes are those of before, it goes on, and it has no traceback to show."""
        if (pids := self._tree.pids()) != self._pids:
            findings.is_wrong("other processes", b"", (self._pids, pids))
        if "Traceback" in (new := self._tree.output[self._output :]):
            findings.is_wrong("a traceback", b"", new[new.index("Traceback") - 500 :][:4000])
        if (died := self._deaths()) != self._died:
            findings.is_wrong("an instance died", b"", died)
        if self._tree.value("bodies.add", {"x": 1}) != 11:
            findings.is_wrong("it does not go on", b"")

    def _deaths(self) -> list[str]:
        """What is counted of calls whose process died."""
        lines = self._tree.get("/metrics").text.splitlines()
        return [line for line in lines if 'outcome="died"' in line]
