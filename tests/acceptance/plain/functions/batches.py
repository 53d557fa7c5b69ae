"""Functions whose calls run together."""

import os
from typing import Any

import skipper


@skipper.inference(batch=4, batch_wait="10s", max=1)
def fragile(x: list[int]) -> list[int]:
    """Waits for four calls; a negative one ends the process."""
    if min(x) < 0:
        os._exit(5)
    return [2 * each for each in x]


@skipper.inference(batch=8)
def halves(x: list[int]) -> list[Any]:
    return [skipper.ItemError(f"{each} is odd") if each % 2 else each / 2 for each in x]


def _doubled(x: list[int]) -> list[int]:
    return [2 * each for each in x]


@skipper.inference(batch=8, batch_with=_doubled)
def double(x: int) -> int:
    raise AssertionError("the one that takes lists runs")
