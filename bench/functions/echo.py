"""Functions that give back what they were given: each caller has a nonce of its own."""

import asyncio
import random
import time

import skipper


@skipper.data
def plain(nonce: str, ms: float = 0) -> str:
    time.sleep(ms / 1000)
    return nonce


@skipper.data
async def waiting(nonce: str, ms: float = 0) -> str:
    await asyncio.sleep(ms / 1000 * random.random())
    return nonce


@skipper.inference(batch=16)
def batched(nonce: list[str], ms: list[float]) -> list[str]:
    time.sleep(max(ms) / 1000)
    return nonce
