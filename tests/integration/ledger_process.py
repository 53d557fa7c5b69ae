"""A process beside the test: ``open`` a ledger, or ``claim`` every id of its input in it."""

from __future__ import annotations

import asyncio
import random
import sys
import time

from skipper.ledger import Ledger, tasks


async def main(verb: str, url: str, schema: str) -> None:
    """Print ``ready``, wait for the first line of input, then do what ``verb`` names."""
    if verb == "open":
        print("ready", flush=True)
        sys.stdin.readline()
        Ledger.open(url, schema=schema).close()
        return
    with Ledger.open(url, schema=schema) as ledger:
        await ledger.read(tasks.counts)
        print("ready", flush=True)
        for task_id, attempt in await claim_all(ledger, sys.stdin.readline().split()):
            print(task_id, attempt)


async def claim_all(ledger: Ledger, ids: list[str]) -> list[tuple[str, int]]:
    random.shuffle(ids)
    found = []
    for start in range(0, len(ids), 3):
        some = ids[start : start + 3]
        claims = await ledger.write(
            lambda conn, some=some: tasks.claim(conn, some, "other", time.time()),  # type: ignore[misc]  # binds the loop's value
            durable=False,
        )
        found += [(claim.task.id, claim.attempt) for claim in claims]
    return found


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
