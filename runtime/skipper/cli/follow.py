"""Following a task to its end: ``skipper call`` of what is a task, and ``skipper tasks watch``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from skipper.cli.output import info, paint
from skipper.cli.target import Target
from skipper.errors import DeadlineError
from skipper.exits import Exit

if TYPE_CHECKING:
    from skipper.cli.progress import PlainProgress
    from skipper.client import WantedValue
    from skipper.client.messages import Reply


def followed(
    task_id: str,
    where: Target,
    shown: PlainProgress,
    timeout_s: float | None,
    wanted: WantedValue,
) -> Reply:
    """The answer with the task's value, once ``shown`` has shown its life.

    Raises the error of its end. Ctrl-C and the timeout end the following alone; the task goes on.
    """
    import asyncio

    try:
        return asyncio.run(_follow(task_id, where, shown, timeout_s, wanted))
    except KeyboardInterrupt:
        show_unfinished(task_id, where, "goes on")
        raise typer.Exit(Exit.INTERRUPTED) from None


async def _follow(
    task_id: str,
    where: Target,
    shown: PlainProgress,
    timeout_s: float | None,
    wanted: WantedValue,
) -> Reply:
    import asyncio

    from skipper.client import flows

    try:
        async with where.async_client() as client, asyncio.timeout(timeout_s):
            handle = await client.task(task_id)
            with shown:
                shown.begin(handle.function)
                async for event in handle.events():
                    shown.on_event(event)
            return await client.run(flows.reply_with_result(await handle.status(), wanted))
    except DeadlineError:
        raise
    except TimeoutError:
        show_unfinished(task_id, where, "goes on")
        raise DeadlineError(f"Task {task_id} has not ended after {timeout_s:g} s.") from None


def show_unfinished(task_id: str, where: Target, how: str) -> None:
    """Print that the task lives on, how to follow it and how to stop it."""
    info(
        f"{paint(f'Task {task_id} {how}.', '1', sys.stderr)} "
        f"`skipper tasks watch {task_id}{where.flags}` follows it, "
        f"`skipper tasks cancel {task_id}{where.flags}` stops it."
    )
