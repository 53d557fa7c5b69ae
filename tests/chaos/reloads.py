"""Save files all the time under calls, and see that nobody notices but by the answers.

``python -m tests.chaos.reloads --count 1000`` runs it on a tree of its own. A function's file and a
module that it imports are saved in turn, every third time the module, in two writes with a pause
between: each saves another number. Meanwhile the function is called at a steady rate. No call may
fail, or be answered from a file that was half-written; of a caller's answers none may be older than
the one before; and two answers under one ``X-Skipper-Code`` may not come of two texts.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.acceptance.tree import CPU_ALONE, Tree, lent, project

_FILE = """
import skipper
from functions import _number

OWN = {0}
REST = "{1}"

@skipper.data
def number() -> list[int]:
    return [OWN, int(REST), _number.OWN, int(_number.REST)]
"""
_MODULE = 'OWN = {0}\n\nREST = "{1}"\n'
_PAUSE_S = 0.005
"""Between the two halves of a save: an editor that writes in place."""
_SETTLE_S = 10.0


@dataclass(kw_only=True)
class Seen:
    """What the calls have shown."""

    calls: int = 0
    failed: list[str] = field(default_factory=list)
    half_written: int = 0
    went_back: int = 0
    by_code: defaultdict[str, set[tuple[int, ...]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    newest: tuple[int, int] = (0, 0)
    first_at: dict[tuple[int, int], float] = field(default_factory=dict)

    def take(self, began: tuple[int, int], response: httpx.Response) -> None:
        """Judge one answer; ``began`` is the newest that had been answered when it was asked."""
        self.calls += 1
        if response.status_code != 200:
            self.failed.append(response.text[:300])
            return
        own, rest, module, module_rest = numbers = response.json()
        self.half_written += (own, module) != (rest, module_rest)
        self.by_code[response.headers["x-skipper-code"]].add(tuple(numbers))
        mine = (own, module)
        self.went_back += own < began[0] or module < began[1]
        self.newest = max(self.newest[0], own), max(self.newest[1], module)
        self.first_at.setdefault(mine, time.monotonic())

    @property
    def of_two_texts(self) -> int:
        """How many codes named more than one."""
        return sum(len(texts) > 1 for texts in self.by_code.values())

    @property
    def is_good(self) -> bool:
        return not (self.failed or self.half_written or self.went_back or self.of_two_texts)


class Campaign:
    """One tree, its saves and its calls."""

    def __init__(self, tree: Tree, rate: float) -> None:
        self._tree, self._rate = tree, rate
        self.seen = Seen()
        self.delays: list[float] = []
        self._is_over = False

    async def run(self, count: int, every_s: float) -> None:
        """Save ``count`` times, each as soon as the one before is served, no faster than that."""
        async with httpx.AsyncClient(base_url=self._tree.url, timeout=30.0) as client:
            calls = asyncio.create_task(self._call_all(client))
            file, module = 1, 1
            for number in range(count):
                begun = time.monotonic()
                if number % 3 == 2:
                    module += 1
                    await self._save("_number", _MODULE, module)
                else:
                    file += 1
                    await self._save("saved", _FILE, file)
                await self._until((file, module))
                await asyncio.sleep(max(0.0, every_s - (time.monotonic() - begun)))
            self._is_over = True
            await calls

    async def _save(self, stem: str, text: str, number: int) -> None:
        path = self._tree.folder / f"functions/{stem}.py"
        whole = text.format(number, number)
        half = whole.index("REST") + 2
        with path.open("w", encoding="utf-8") as file:
            file.write(whole[:half])
            file.flush()
            await asyncio.sleep(_PAUSE_S)
            file.write(whole[half:])

    async def _until(self, numbers: tuple[int, int]) -> None:
        saved = time.monotonic()
        while numbers not in self.seen.first_at:
            if time.monotonic() - saved > _SETTLE_S:
                raise TimeoutError(f"{numbers} is not served; the newest is {self.seen.newest}")
            await asyncio.sleep(0.005)
        self.delays.append(self.seen.first_at[numbers] - saved)

    async def _call_all(self, client: httpx.AsyncClient) -> None:
        under_way: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not self._is_over:
            task = asyncio.create_task(self._call(client))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += 1 / self._rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*under_way)

    async def _call(self, client: httpx.AsyncClient) -> None:
        began = self.seen.newest
        response = await client.post("/v1/functions/saved.number/invoke", json={})
        self.seen.take(began, response)


def main() -> int:
    """Run it as the command line says; 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="saves")
    parser.add_argument("--rate", type=float, default=50.0, help="calls a second")
    parser.add_argument("--every", type=float, default=0.2, help="seconds between saves, at least")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        texts = {"saved": _FILE.format(1, 1), "_number": _MODULE.format(1, 1)}
        with lent(Tree(project(Path(folder), **texts), "--reload", *CPU_ALONE)) as tree:
            campaign, begun = Campaign(tree.ready(), given.rate), time.monotonic()
            asyncio.run(campaign.run(given.count, given.every))
            took_s = time.monotonic() - begun
            tree.end()
    seen, delays = campaign.seen, sorted(campaign.delays)
    sys.stdout.write(
        f"{given.count} saves in {took_s:.0f} s, {seen.calls} calls ({seen.calls / took_s:.0f}/s): "
        f"{len(seen.failed)} failed, {seen.half_written} half-written, {seen.went_back} went back, "
        f"{len(seen.by_code)} codes, {seen.of_two_texts} of two texts; a save was served within "
        f"{delays[len(delays) // 2]:.2f} s (median), {delays[-1]:.2f} s (longest)\n"
    )
    sys.stdout.write("".join(f"{text}\n" for text in seen.failed[:10]))
    return 0 if seen.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
