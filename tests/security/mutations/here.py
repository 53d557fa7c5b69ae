"""Mutants against this process: the gateway's connection, and both ends of a link."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from skipper.gateway.http.limits import Limits
from skipper.wire.frames import FrameProtocol, Splitter
from skipper.wire.link import Link
from skipper.wire.messages import LinkRole
from tests.security.mutations.findings import Findings, Tracebacks
from tests.security.mutations.mutants import Mutants
from tests.unit.gateway.http.line import Answering, Caller, with_body
from tests.unit.gateway.played import settle

PER_CONNECTION = 5
"""Mutants that one connection is sent, as long as it lives."""
LONG_S = 1e6


def requests(seed: int, cases: int) -> Findings:
    """Feed requests to connections whose service answers with what it was sent."""
    return asyncio.run(_watched(_requests, seed, cases))


def links(seed: int, cases: int) -> Findings:
    """Feed frames to what reads them in a gateway: whole ones, and what a host may send."""
    return asyncio.run(_watched(_links, seed, cases))


async def _watched(drive: Any, seed: int, cases: int) -> Findings:
    """What ``drive`` finds, where every traceback that is logged meanwhile is wrong, too."""
    tracebacks, findings = Tracebacks(), Findings(cases=cases)
    logger = logging.getLogger()
    logger.addHandler(tracebacks)
    try:
        await drive(Mutants(seed), findings, tracebacks)
    finally:
        logger.removeHandler(tracebacks)
    return findings


async def _requests(mutants: Mutants, findings: Findings, tracebacks: Tracebacks) -> None:
    left = findings.cases
    while left > 0:
        caller, sent, before = Caller(Answering(with_body)), b"", 0
        for _ in range(min(PER_CONNECTION, left)):
            left -= 1
            case = mutants.request()
            sent += case
            try:
                caller.send(*mutants.segments(case))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
                findings.is_wrong("an exception", sent, repr(error))
                break
            await settle()
            findings.answered(sent, bytes(caller.transport.out[before:]))
            before = len(caller.transport.out)
            if caller.is_cut:
                break
        for text in tracebacks.take():
            findings.is_wrong("a logged traceback", sent, text)
        _assert_ends(caller, sent, findings)


def _assert_ends(caller: Caller, sent: bytes, findings: Findings) -> None:
    """Whatever a connection is at, it is not for ever."""
    limits, now = Limits(), asyncio.get_running_loop().time()
    for n in range(1, 5):
        if caller.transport.is_closed:
            return
        caller.connection.check(now + n * LONG_S, limits)
    findings.is_wrong("hangs", sent, bytes(caller.transport.out[-300:]))


class _Listener:
    def on_catalogue(self) -> None: ...

    def on_tasks(self, ids: list[str]) -> None: ...

    def on_task_events(self, ids: list[str]) -> None: ...


class _Transport:
    """Where what a link sends goes: nowhere."""

    is_aborted = False

    def write(self, data: bytes) -> None: ...

    def set_write_buffer_limits(self, high: int) -> None: ...

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True

    close = abort


async def _links(mutants: Mutants, findings: Findings, tracebacks: Tracebacks) -> None:
    left = findings.cases
    while left > 0:
        link = Link("cpu", Path("/nowhere"), LinkRole.GATEWAY, _Listener())
        connection = FrameProtocol(link._on_frames, link._on_lost, link._on_connected)
        transport: Any = _Transport()
        connection.connection_made(transport)
        connection.data_received(mutants.hello())
        for _ in range(min(PER_CONNECTION, left)):
            left -= 1
            _feed(mutants, link, connection, findings)
            if transport.is_aborted:
                break
        connection.connection_lost(None)
    for text in tracebacks.take():
        findings.is_wrong("a logged traceback", b"", text)


def _feed(mutants: Mutants, link: Link, connection: FrameProtocol, findings: Findings) -> None:
    case = mutants.frames(ids=4)
    segments = mutants.segments(case)
    if _split([case]) != _split(segments):
        findings.is_wrong("where it is cut makes a difference", case, segments)
    if link.is_up:
        link.call(b"", LONG_S, asyncio.Queue())
    try:
        for segment in segments:
            connection.data_received(segment)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        findings.is_wrong("an exception", case, repr(error))


def _split(segments: list[bytes]) -> object:
    splitter = Splitter()
    try:
        return [frame for segment in segments for frame in splitter.feed(segment)]
    except ValueError:
        return "no frames"
