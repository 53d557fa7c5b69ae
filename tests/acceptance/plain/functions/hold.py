"""Functions that stay until a file is there, so that tests decide how long they run."""

import os
import time
from pathlib import Path

import skipper


def _stay(gate: str) -> None:
    Path(f"{gate}.in-{os.getpid()}-{time.monotonic_ns()}").touch()
    while not Path(gate).exists():
        time.sleep(0.01)


@skipper.data
def direct(gate: str) -> int:
    _stay(gate)
    return os.getpid()


@skipper.training
def task(gate: str, *, run: skipper.Run) -> str:
    """Looks at ``run.cancelled`` while it stays."""
    Path(f"{gate}.in-{os.getpid()}-{run.attempt}").touch()
    while not Path(gate).exists() and not run.cancelled:
        time.sleep(0.01)
    return "cancelled" if run.cancelled else "through"


@skipper.training
def deaf(gate: str) -> str:
    """Does not look at whether it was cancelled."""
    _stay(gate)
    return "through"


@skipper.training
class Loading:
    """Stays where it starts."""

    def __init__(self) -> None:
        time.sleep(60)

    def __call__(self) -> None: ...
