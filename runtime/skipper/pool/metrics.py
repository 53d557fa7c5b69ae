"""Counts of one pool since its host started. Rendered by the gateway, which asks every host."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from skipper.function.tallies import Room, Series, Tallies
from skipper.histogram import Histogram
from skipper.instance.jobs import ModelRef
from skipper.outcomes import MEANINGS
from skipper.wire.messages import (
    AttemptCount,
    CallCount,
    HistogramCounts,
    InstanceCount,
    MetricsSnapshot,
    ModelCalls,
    OwnMetrics,
    OwnSeries,
    UnfitVersion,
)

log = logging.getLogger(__name__)

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


class OwnTallies:
    """What one function counts itself, over all its instances; bounded as in each of them."""

    def __init__(self) -> None:
        self._all, self._room = Tallies(), Room()
        self._has_told = False

    def add(self, tallies: Tallies) -> str | None:
        """Add what there is room for; what is wrong, the first time that something is."""
        problem = self._cut(tallies.counts, is_count=True)
        problem = self._cut(tallies.histograms, is_count=False) or problem
        self._all.add(tallies)
        if problem is None or self._has_told:
            return None
        self._has_told = True
        return problem

    def _cut(self, found: dict[Series, Any], *, is_count: bool) -> str | None:
        """Leave out of ``found`` what there is no room for; why, where that is something."""
        problem = None
        for series in list(found):
            try:
                self._room.admit(series, is_count=is_count)
            except ValueError as error:
                problem = str(error)
                del found[series]
                self._all.left_out += 1
        return problem

    def snapshot(self) -> OwnMetrics:
        """All of it."""
        series = [_own(each, amount) for each, amount in self._all.counts.items()]
        series += [_own(each, _snapshot(found)) for each, found in self._all.histograms.items()]
        return OwnMetrics(series=tuple(series), left_out=self._all.left_out)


class CallFigures:
    """Direct calls that have been answered: how, and how long they took."""

    __slots__ = ("durations", "outcomes")

    def __init__(self) -> None:
        self.outcomes: Counter[int] = Counter()
        self.durations = _seconds()

    def ended(self, outcome: int, seconds: float) -> None:
        """A call has been answered."""
        self.outcomes[outcome] += 1
        self.durations.observe(seconds)

    def add(self, other: CallFigures) -> None:
        """Count another's calls, too."""
        self.outcomes.update(other.outcomes)
        self.durations.add(other.durations)

    @property
    def by_name(self) -> dict[str, int]:
        return {MEANINGS[outcome].name: count for outcome, count in self.outcomes.items()}


class EditionFigures(NamedTuple):
    """The calls that were answered by an edition of a function, which may answer more."""

    function: str
    models: tuple[ModelRef, ...]
    figures: CallFigures


class PoolMetrics:
    """What happened in a pool, by function."""

    def __init__(self) -> None:
        self._calls: defaultdict[str, CallFigures] = defaultdict(CallFigures)
        """Those that no edition answered which is there."""
        self.editions: Callable[[], Iterable[EditionFigures]] = tuple
        """Whose calls are counted beside those, so that none is counted twice."""
        self._attempts: Counter[tuple[str, str, int]] = Counter()
        self.task_waits: defaultdict[str, Histogram] = defaultdict(_seconds)
        self.cold_starts: defaultdict[str, Histogram] = defaultdict(_seconds)
        self.batch_sizes: defaultdict[str, Histogram] = defaultdict(
            lambda: Histogram(BUCKETS_ITEMS)
        )
        self._own: defaultdict[str, OwnTallies] = defaultdict(OwnTallies)
        self.reloads: Counter[str] = Counter()

    def ended(self, function: str, outcome: int, seconds: float) -> None:
        """A direct call has been answered, by no edition of its function."""
        self._calls[function].ended(outcome, seconds)

    def taken_in(self, function: str, figures: CallFigures) -> CallFigures:
        """Count what an edition has answered that goes; where it counts what is left of it."""
        self._calls[function].add(figures)
        return self._calls[function]

    @property
    def _by_function(self) -> dict[str, CallFigures]:
        found: defaultdict[str, CallFigures] = defaultdict(CallFigures)
        for function, figures in self._calls.items():
            found[function].add(figures)
        for each in self.editions():
            if each.figures.outcomes:
                found[each.function].add(each.figures)
        return found

    def _by_model(self) -> Iterator[ModelCalls]:
        found: defaultdict[tuple[str, int, str], CallFigures] = defaultdict(CallFigures)
        for each in self.editions():
            for ref in each.models:
                found[ref.name, ref.version, each.function].add(each.figures)
        for (model, version, function), figures in found.items():
            yield ModelCalls(
                model=model,
                version=version,
                function=function,
                outcomes=figures.by_name,
                duration=_snapshot(figures.durations),
            )

    def attempted(self, function: str, lane: str, outcome: int) -> None:
        """A run of a function has ended, which may be tried again."""
        self._attempts[function, lane, outcome] += 1

    def tallied(self, function: str, tallies: Tallies) -> None:
        """An instance of a function says what that has counted since it last said so."""
        if (problem := self._own[function].add(tallies)) is not None:
            log.warning(
                "%s: some is left out of /metrics: %s",
                function,
                problem,
                extra={"function": function},
            )

    def runs(self, function: str) -> int:
        """How many direct calls were answered and tasks claimed so far."""
        waits, calls = self.task_waits.get(function), self._by_function.get(function)
        return (waits.count if waits else 0) + (calls.durations.count if calls else 0)

    def snapshot(
        self,
        *,
        queued: int,
        instances: Iterable[tuple[str, str]],
        unfit: Iterable[UnfitVersion] = (),
    ) -> MetricsSnapshot:
        """All counts, with what the pool has just now: calls that wait, its ``instances``, each
        by its function and its state, and what is ``unfit`` of what is in production.
        """
        calls = self._by_function
        return MetricsSnapshot(
            calls=tuple(
                CallCount(function=function, outcome=outcome, count=count)
                for function, figures in calls.items()
                for outcome, count in figures.by_name.items()
            ),
            models=tuple(self._by_model()),
            attempts=tuple(
                AttemptCount(
                    function=function, lane=lane, outcome=MEANINGS[outcome].name, count=count
                )
                for (function, lane, outcome), count in self._attempts.items()
            ),
            call_duration={name: _snapshot(each.durations) for name, each in calls.items()},
            task_wait=_snapshots(self.task_waits),
            cold_start=_snapshots(self.cold_starts),
            batch_size=_snapshots(self.batch_sizes),
            own={function: own.snapshot() for function, own in self._own.items()},
            reloads=dict(self.reloads),
            queued=queued,
            instances=tuple(
                InstanceCount(function=function, state=state, count=count)
                for (function, state), count in Counter(instances).items()
            ),
            unfit=tuple(unfit),
        )


def _seconds() -> Histogram:
    return Histogram(BUCKETS_S)


def _own(series: Series, counted: float | HistogramCounts) -> OwnSeries:
    return OwnSeries(name=series.name, labels=dict(series.labels), counted=counted)


def _snapshot(found: Histogram) -> HistogramCounts:
    return HistogramCounts(bounds=found.bounds, counts=tuple(found.counts), sum=found.total)


def _snapshots(histograms: Mapping[str, Histogram]) -> dict[str, HistogramCounts]:
    return {function: _snapshot(histogram) for function, histogram in histograms.items()}
