"""Functions without a library of their own."""

import time
from pathlib import Path

import skipper


@skipper.inference
def total(x: list[float]) -> dict[str, float]:
    return {"y": sum(x)}


@skipper.data
def nothing(n: int) -> int:
    return n


@skipper.training
def hold(until: str) -> None:
    """Keep a slot until a file is there."""
    while not Path(until).exists():
        time.sleep(0.05)
