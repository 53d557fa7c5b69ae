"""Tasks: what they say, how they fail, how often they are tried."""

import logging
import os
import sys
import time
from pathlib import Path

import skipper


@skipper.training
def talks(steps: int = 3, *, run: skipper.Run) -> dict[str, object]:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    logging.getLogger("mine").warning("to logging")
    run.log("to the run", level="warning")
    for step in range(steps):
        run.progress(step + 1, steps, loss=1 / (step + 1))
        run.metric("loss", 1 / (step + 1), step=step)
    return {"task": run.task_id, "attempt": run.attempt, "request": run.request_id}


@skipper.training(timeout="500ms")
def late() -> None:
    time.sleep(60)


@skipper.training(retries=2)
def flaky(succeed_at: int, *, run: skipper.Run) -> int:
    if run.attempt < succeed_at:
        raise RuntimeError(f"attempt {run.attempt} fails")
    return run.attempt


@skipper.training(retries=1, backoff="30s")
def fails_for_long() -> None:
    raise RuntimeError("not yet")


@skipper.training(retries=1)
def dies() -> None:
    os._exit(7)


@skipper.training
def exits() -> None:
    sys.exit("done with it")


@skipper.training(timeout=30)
def time_left(*, run: skipper.Run) -> float | None:
    return run.deadline


@skipper.training
def chatters(lines: int, *, run: skipper.Run) -> int:
    for number in range(lines):
        run.log(f"line {number}")
    return lines


@skipper.training
def burns(gate: str, *, run: skipper.Run) -> int:
    """Keeps a core busy until a file is there; the niceness it did so with."""
    Path(f"{gate}.in-{os.getpid()}-{run.attempt}").touch()
    while not Path(gate).exists():
        sum(range(10_000))
    return os.nice(0)


@skipper.data
def niceness() -> int:
    return os.nice(0)


@skipper.training
def adds(x: int, y: int = 1) -> int:
    return x + y


class TransientError(Exception):
    pass


@skipper.training(retries=2, retry_on="TransientError", backoff="100ms")
def picky(transient: bool, *, run: skipper.Run) -> int:
    if run.attempt < 3:
        raise TransientError if transient else ValueError("for good")
    return run.attempt


@skipper.training(timeout="300ms")
def numb(gate: str) -> int:
    """Runs in C, where no signal is heard."""
    Path(f"{gate}.in-{os.getpid()}").touch()
    return sum(range(10**13))


@skipper.training(start_timeout="300ms", retries=1, backoff="100ms")
class Sleeper:
    """Never comes to its first call."""

    def __init__(self) -> None:
        time.sleep(60)

    def __call__(self) -> None: ...
