"""Direct calls with a nonce each, while callers hang up and instances are killed: no crossed reply.

A call is answered by its own nonce under its own request
id, or by a 502 or 503 under its own request id, and exactly once. Whoever hung up is answered
nothing, which is all that can be seen of it from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from bench import tree
from bench.calls import calling
from bench.options import Bench
from bench.raw import Line, Reply

CALLS = 100_000
FUNCTIONS = ("echo.plain", "echo.waiting", "echo.batched")
ALLOWED = (200, 502, 503)
CONNECTIONS = 32
HANG_UP_SHARE = 0.02
SLOW_SHARE = 0.05
SLOW_MS = 20.0
KILL_EVERY = 500
"""Calls between two kills, about: by the clock a slow machine would do nothing else."""
ANSWER_S = 90.0
"""Above every deadline of the runtime: who has no answer by then gets none."""
_SHOWN = 5


@dataclass
class Outcome:
    """What became of the calls. ``violations`` is empty if every promise was kept."""

    answers: Counter[int] = field(default_factory=Counter)
    hung_up: int = 0
    kills: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def calls(self) -> int:
        return self.answers.total() + self.hung_up


def run(bench: Bench) -> None:
    """Once, whatever the number of rounds: it is the calls that are many."""
    seed = int(time.time())
    outcome = storm(bench.scaled(CALLS), seed=seed)
    bench.note(f"The random numbers began with {seed}.")
    for violation in outcome.violations[:_SHOWN]:
        bench.note(violation)
    for name, count in (
        ("made", outcome.calls),
        ("cancels", outcome.hung_up),
        ("kills", outcome.kills),
        ("refused", outcome.answers[502] + outcome.answers[503]),
        ("mismatches", len(outcome.violations)),
        ("s", outcome.seconds),
    ):
        bench.figures.add(f"nonce.calls.{name}", count)


def storm(
    calls: int,
    *,
    seed: int = 0,
    connections: int = CONNECTIONS,
    kill_every: int = KILL_EVERY,
) -> Outcome:
    """Make so many calls to a tree of their own."""
    with tree.tree_of(["echo.py"]) as found:
        return asyncio.run(_Storm(found, calls, seed, kill_every).run(connections))


class _Storm:
    """The callers, and who kills what they call."""

    def __init__(self, found: tree.Tree, calls: int, seed: int, kill_every: int) -> None:
        self._tree, self._left, self._kill_every = found, calls, kill_every
        self._rng = random.Random(seed)
        self._outcome = Outcome()

    async def run(self, connections: int) -> Outcome:
        began = time.monotonic()
        killer = asyncio.create_task(self._kill())
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._call_on())
        killer.cancel()
        self._outcome.seconds = time.monotonic() - began
        return self._outcome

    async def _call_on(self) -> None:
        """Call over one connection after the other until all calls are made."""
        line: Line | None = None
        while self._left > 0:
            self._left -= 1
            line = line or await Line.open(self._tree.port)
            if self._rng.random() < HANG_UP_SHARE:
                await self._hang_up(line)
                line = None
            elif not await self._call(line):
                line = None
        if line is not None:
            if surplus := await line.surplus(0.2):
                self._outcome.violations.append(f"an answer to nobody: {surplus[:200]!r}")
            line.close()

    async def _hang_up(self, line: Line) -> None:
        """Call, and leave before the answer is there, or just when it comes."""
        path, body, nonce = self._request()
        line.send(path, body, x_request_id=nonce)
        await asyncio.sleep(self._rng.random() * 0.01)
        line.close()
        self._outcome.hung_up += 1

    async def _call(self, line: Line) -> bool:
        """One call and its answer; whether the connection is of further use."""
        path, body, nonce = self._request()
        line.send(path, body, x_request_id=nonce)
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await line.reply()
        except (OSError, EOFError, TimeoutError) as error:
            self._outcome.violations.append(f"{path} {nonce} has no answer: {error!r}")
            self._outcome.answers[0] += 1
            line.close()
            return False
        self._outcome.answers[reply.status] += 1
        if wrong := wrong_with(reply, nonce):
            self._outcome.violations.append(f"{path} {nonce}: {wrong}")
        return True

    def _request(self) -> tuple[str, bytes, str]:
        nonce = secrets.token_hex(12)
        ms = SLOW_MS * self._rng.random() if self._rng.random() < SLOW_SHARE else 0.0
        body = json.dumps({"nonce": nonce, "ms": ms}).encode()
        return tree.path(self._rng.choice(FUNCTIONS)), body, nonce

    async def _kill(self) -> None:
        """Kill an instance of a function, again and again."""
        while True:
            due = self._outcome.calls + self._rng.randrange(2 * self._kill_every)
            while self._outcome.calls < due:  # noqa: ASYNC110 - once per kill, not per call
                await asyncio.sleep(0.01)
            pids = await asyncio.to_thread(self._instances)
            if pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._rng.choice(pids), signal.SIGKILL)
                    self._outcome.kills += 1

    def _instances(self) -> list[int]:
        with calling(self._tree.port) as caller:
            return [
                pid for name in FUNCTIONS for pid in self._tree.instances(caller, name) if pid > 0
            ]


def wrong_with(reply: Reply, nonce: str) -> str:
    """What a reply to the call with this nonce should not be; empty where it is right."""
    if reply.headers.get(b"x-request-id") != nonce.encode():
        return f"answered under request id {reply.headers.get(b'x-request-id')!r}"
    if reply.status not in ALLOWED:
        return f"answered {reply.status}: {reply.body[:200]!r}"
    if reply.status == 200 and reply.body != json.dumps(nonce).encode():
        return f"crossed: got {reply.body[:200]!r}"
    return ""
