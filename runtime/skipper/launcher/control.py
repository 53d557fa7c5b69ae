"""The launcher's socket in the run folder: one question a connection, one answer, JSON lines.

After :class:`~skipper.wire.control.StopTree` the connection stays open until the launcher ends: its
end is the end of the tree. The other side is :mod:`client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from skipper.wire.control import (
    LauncherQuestion,
    StopTree,
    TreeStatus,
    parse_launcher_question,
)
from skipper.wire.frames import peer_is_us

_QUESTION_S = 5.0

Answer = Callable[[LauncherQuestion | None], TreeStatus | dict[str, Any]]


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
    _close_to_others(path)
    try:
        yield
    finally:
        server.close()
        _remove(path)


def _close_to_others(path: Path) -> None:
    path.chmod(0o600)  # its folder is private, and who connects is looked at: this is the third


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer
) -> None:
    async with asyncio.timeout(_QUESTION_S):
        question = parse_launcher_question(await reader.readline())
    writer.write(json.dumps(answer(question)).encode() + b"\n")
    await writer.drain()
    if isinstance(question, StopTree):
        await reader.read()  # until the asker leaves or this process ends
