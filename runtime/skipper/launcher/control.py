"""The launcher's socket in the run folder: one JSON question a connection, one JSON answer.

``{"do": "status"}`` and ``{"do": "down", "kill": false}``. After ``down`` the connection stays open
until the launcher ends: its end is the end of the tree. The other side is :mod:`client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from skipper.wire.frames import peer_is_us

_QUESTION_S = 5.0

Answer = Callable[[dict[str, Any]], dict[str, Any]]


@contextlib.asynccontextmanager
async def serving(path: Path, answer: Answer) -> AsyncIterator[None]:
    """Answer on the unix socket ``path``, which nobody else may hold, until the context ends."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # cancelled means that the launcher ends; asyncio before 3.12 would log it as an error
        with contextlib.suppress(OSError, ValueError, TimeoutError, asyncio.CancelledError):
            if peer_is_us(writer.get_extra_info("socket"), os.getuid()):
                await _converse(reader, writer, answer)
        writer.close()

    server = await asyncio.start_unix_server(connected, path)
    try:
        yield
    finally:
        server.close()
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer
) -> None:
    async with asyncio.timeout(_QUESTION_S):
        question = json.loads(await reader.readline())
    if not isinstance(question, dict):
        return
    writer.write(json.dumps(answer(question)).encode() + b"\n")
    await writer.drain()
    if question.get("do") == "down":
        await reader.read()  # until the asker leaves or this process ends
