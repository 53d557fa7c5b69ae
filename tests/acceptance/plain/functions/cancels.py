"""Tasks to be cancelled at any moment: each notes what it really did, and returns its nonce."""

import asyncio
import os
import time

import skipper


class _Log:
    """One line per effect, each one write: task, attempt, nonce, what, when."""

    def __init__(self, path: str, nonce: str, run: skipper.Run) -> None:
        self._path, self._head = path, f"{run.task_id} {run.attempt} {nonce}"

    def note(self, what: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{self._head} {what} {time.time():.6f}\n".encode())
        os.close(descriptor)


@skipper.training
def polite(nonce: str, log: str, ms: float, *, run: skipper.Run) -> str:
    """Looks at ``run.cancelled``."""
    effects = _Log(log, nonce, run)
    effects.note("begin")
    ends = time.monotonic() + ms / 1000
    while time.monotonic() < ends:
        if run.cancelled:
            raise skipper.Cancelled
        time.sleep(0.002)
    effects.note("end")
    return nonce


@skipper.training
def deaf(nonce: str, log: str, ms: float, *, run: skipper.Run) -> str:
    """Does not look: it ends first, or it is interrupted."""
    effects = _Log(log, nonce, run)
    effects.note("begin")
    time.sleep(ms / 1000)
    effects.note("end")
    return nonce


@skipper.training
def stubborn(nonce: str, log: str, ms: float, *, run: skipper.Run) -> str:
    """Does not look, and goes on when it is interrupted: it has to be killed."""
    effects = _Log(log, nonce, run)
    effects.note("begin")
    ends = time.monotonic() + ms / 1000
    while time.monotonic() < ends:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001 - which is what it is for
            effects.note("goes on")
    effects.note("end")
    return nonce


@skipper.training
async def awake(nonce: str, log: str, ms: float, *, run: skipper.Run) -> str:
    """Waits on an event loop, where a cancel is an exception at once."""
    effects = _Log(log, nonce, run)
    effects.note("begin")
    await asyncio.sleep(ms / 1000)
    effects.note("end")
    return nonce


@skipper.training(retries=2, backoff="200ms", retry_on="ConnectionError")
def flaky(nonce: str, log: str, ms: float, *, run: skipper.Run) -> str:
    """Is tried again twice."""
    effects = _Log(log, nonce, run)
    effects.note("begin")
    time.sleep(ms / 1000)
    if run.attempt < 3:
        raise ConnectionResetError("not yet")
    effects.note("end")
    return nonce


@skipper.training
class Sluggish:
    """Takes a while to start."""

    def __init__(self) -> None:
        time.sleep(0.2)

    def __call__(self, nonce: str, log: str, ms: float, *, run: skipper.Run) -> str:
        effects = _Log(log, nonce, run)
        effects.note("begin")
        time.sleep(ms / 1000)
        effects.note("end")
        return nonce
