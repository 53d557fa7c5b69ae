"""Calls of an ``async def`` that only end once several of them are under way in one process."""

import asyncio
import os

import skipper

present = 0
complete = asyncio.Event()


@skipper.inference
async def meet(others: int) -> int:
    global present  # noqa: PLW0603 - what the calls share
    present += 1
    if present == others:
        complete.set()
    await complete.wait()
    return os.getpid()
