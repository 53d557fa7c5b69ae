"""Functions that talk: over several attempts, step by step, or far too much."""

import os
import time
from pathlib import Path

import skipper


@skipper.training(retries=2)
def tries(succeed_at: int, *, run: skipper.Run) -> int:
    """Tells of itself in each attempt."""
    print(f"attempt {run.attempt}")
    run.progress(run.attempt, succeed_at)
    run.metric("tries", run.attempt, step=run.attempt)
    if run.attempt < succeed_at:
        raise RuntimeError(f"attempt {run.attempt} fails")
    return run.attempt


@skipper.training
def steps(gate: str, number: int, *, run: skipper.Run) -> int:
    """A line and a step for each ``<gate>-<n>`` that appears."""
    for step in range(number):
        while not Path(f"{gate}-{step}").exists():
            time.sleep(0.01)
        print("step", step)
        run.progress(step + 1, number)
    return number


@skipper.training
def floods(lines: int, width: int = 0) -> int:
    for number in range(lines):
        print("line", number, "x" * width)
    return lines


@skipper.training
def pours(mib: int) -> int:
    """One line without an end, as fast as it will go."""
    block = b"x" * (1 << 20)
    for _ in range(mib):
        view = memoryview(block)
        while view:
            view = view[os.write(1, view) :]
    return mib


@skipper.training
def reports(number: int, *, run: skipper.Run) -> int:
    for step in range(number):
        run.progress(step + 1, number)
        run.metric("loss", 1.0 / (step + 1), step=step)
        run.log(f"step {step}")
    return number


@skipper.data(mode="task")
def half_a_letter(*, run: skipper.Run) -> None:
    """Say and raise what neither UTF-8 nor PostgreSQL has."""
    run.log("no \0 text")
    print("no \0 text")
    raise ValueError("half \ud800 a letter, and \0")
