"""Whether what lives long grows: samples, and a slope through them that no outlier moves. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

LONG = 60
"""Samples, one a second, below which a process has not lived long enough to tell anything."""
_WARM_UP = 1 / 3
"""The share of a life in which caches fill and pages are touched for the first time."""
_PER_TASKS = 1000


class Sample(NamedTuple):
    """What the process ``pid``, which fills the place ``name``, held after so many tasks."""

    name: str
    pid: int
    tasks: int
    mb: float


def slopes(samples: Iterable[Sample]) -> dict[str, float]:
    """MiB per 1,000 tasks by place: the median over its processes that lived long enough."""
    lives: defaultdict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.name, sample.pid].append(sample)
    found: defaultdict[str, list[float]] = defaultdict(list)
    for (name, _), life in lives.items():
        if len(life) >= LONG and (slope := _slope(life[int(len(life) * _WARM_UP) :])) is not None:
            found[name].append(slope)
    return {name: round(median(each), 3) for name, each in sorted(found.items())}


def _slope(life: Sequence[Sample]) -> float | None:
    """Theil and Sen's: the median of the slopes of all pairs. None where no task ended."""
    pairs = [
        (later.mb - earlier.mb) / (later.tasks - earlier.tasks)
        for earlier, later in combinations(life, 2)
        if later.tasks > earlier.tasks
    ]
    return _PER_TASKS * median(pairs) if pairs else None


def merged(each: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The slopes of several rounds as one: the median by place."""
    by_name: defaultdict[str, list[float]] = defaultdict(list)
    for slopes_ in each:
        for name, slope in slopes_.items():
            by_name[name].append(slope)
    return {name: round(median(found), 3) for name, found in sorted(by_name.items())}
