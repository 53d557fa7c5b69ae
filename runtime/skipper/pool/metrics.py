"""Counts of one pool since its host started. Rendered by the gateway, which asks every host."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from skipper.outcomes import MEANINGS
from skipper.wire.messages import (
    AttemptCount,
    CallCount,
    HistogramCounts,
    InstanceCount,
    MetricsSnapshot,
)

BUCKETS_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
BUCKETS_ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class Histogram:
    """Observations counted in fixed buckets."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = BUCKETS_S) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def observe(self, value: float) -> None:
        """Count one observation, in the unit of the bounds."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def snapshot(self) -> HistogramCounts:
        return HistogramCounts(bounds=self._bounds, counts=tuple(self.counts), sum=self.total)


class PoolMetrics:
    """What happened in a pool, by function."""

    def __init__(self) -> None:
        self._calls: Counter[tuple[str, int]] = Counter()
        self._attempts: Counter[tuple[str, str, int]] = Counter()
        self._durations: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.task_waits: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.cold_starts: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.batch_sizes: defaultdict[str, Histogram] = defaultdict(
            lambda: Histogram(BUCKETS_ITEMS)
        )
        self.reloads: Counter[str] = Counter()

    def ended(self, function: str, outcome: int, seconds: float) -> None:
        """A direct call has been answered."""
        self._calls[function, outcome] += 1
        self._durations[function].observe(seconds)

    def attempted(self, function: str, lane: str, outcome: int) -> None:
        """A run of a function has ended, which may be tried again."""
        self._attempts[function, lane, outcome] += 1

    def runs(self, function: str) -> int:
        """How many direct calls were answered and tasks claimed so far."""
        kept = (found.get(function) for found in (self._durations, self.task_waits))
        return sum(each.count for each in kept if each is not None)

    def snapshot(self, *, queued: int, instances: Iterable[tuple[str, str]]) -> MetricsSnapshot:
        """All counts, with what the pool has just now: calls that wait, and its ``instances``, each
        by its function and its state.
        """
        return MetricsSnapshot(
            calls=tuple(
                CallCount(function=function, outcome=MEANINGS[outcome].name, count=count)
                for (function, outcome), count in self._calls.items()
            ),
            attempts=tuple(
                AttemptCount(
                    function=function, lane=lane, outcome=MEANINGS[outcome].name, count=count
                )
                for (function, lane, outcome), count in self._attempts.items()
            ),
            call_duration=_snapshots(self._durations),
            task_wait=_snapshots(self.task_waits),
            cold_start=_snapshots(self.cold_starts),
            batch_size=_snapshots(self.batch_sizes),
            reloads=dict(self.reloads),
            queued=queued,
            instances=tuple(
                InstanceCount(function=function, state=state, count=count)
                for (function, state), count in Counter(instances).items()
            ),
        )


def _snapshots(histograms: Mapping[str, Histogram]) -> dict[str, HistogramCounts]:
    return {function: histogram.snapshot() for function, histogram in histograms.items()}
