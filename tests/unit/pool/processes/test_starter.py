from __future__ import annotations

import asyncio

import pytest

from skipper.pool.processes import starter


async def test_half_of_an_exchange_is_finished_though_nobody_waits_for_it() -> None:
    begun, answer, done = asyncio.Event(), asyncio.Event(), []

    async def exchange() -> None:
        begun.set()
        await answer.wait()
        done.append("answered")

    waiting = asyncio.create_task(starter._to_its_end(exchange()))
    await begun.wait()
    waiting.cancel()
    asyncio.get_running_loop().call_later(0.01, answer.set)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == ["answered"]
