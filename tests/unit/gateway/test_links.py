"""Links in answers."""

from __future__ import annotations

import asyncio

from skipper.gateway.links import below, link


async def test_links_begin_with_the_prefix_of_their_own_request() -> None:
    both = asyncio.Barrier(2)

    async def answer(prefix: str) -> str:
        below(prefix)
        await both.wait()
        return link("/v1/tasks/a")

    prefixed, plain = await asyncio.gather(answer("/ml"), answer(""))
    assert (prefixed, plain) == ("/ml/v1/tasks/a", "/v1/tasks/a")
    assert link("/v1/tasks/a") == "/v1/tasks/a"
