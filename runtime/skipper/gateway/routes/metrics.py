"""``/metrics``: what pools and the ledger have counted, as Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

import skipper
from skipper.errors import SkipperError
from skipper.gateway.access.refusals import Refusals
from skipper.gateway.budget import Budget, Use
from skipper.gateway.context import Context
from skipper.gateway.figures import counted
from skipper.ledger import tasks, totals, usage
from skipper.ledger.connection import Total
from skipper.task import State
from skipper.tasks.intake import bounds_of
from skipper.wire.messages import HistogramCounts, MetricsSnapshot, ModelCalls, OwnMetrics

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

_HISTOGRAMS: tuple[
    tuple[str, str, Callable[[MetricsSnapshot], dict[str, HistogramCounts]]], ...
] = (
    (
        "skipper_call_duration_seconds",
        "Direct calls, from the host's receipt to the answer.",
        lambda found: found.call_duration,
    ),
    (
        "skipper_task_wait_seconds",
        "From when a task could run to its claim.",
        lambda found: found.task_wait,
    ),
    (
        "skipper_cold_start_seconds",
        "Starting an instance of a function.",
        lambda found: found.cold_start,
    ),
    ("skipper_batch_size", "Items that ran as one.", lambda found: found.batch_size),
)

Sample = tuple[dict[str, str], float]
Samples = Iterable[Sample]


def routes(context: Context, refusals: Refusals) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(tags=["operations"])

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Any:
        return Response("".join(await exposition(context, refusals)), 200, media_type=_TEXT)

    return router


async def exposition(context: Context, refusals: Refusals) -> list[str]:
    """Every metric, in Prometheus' text format."""
    pools = await counted(context)
    lines = [
        *_sample("skipper_build_info", "gauge", "Version.", [({"version": skipper.__version__}, 1)])
    ]
    lines += _sample("skipper_calls_total", "counter", "Direct calls answered.", _calls(pools))
    lines += _sample(
        "skipper_model_calls_total",
        "counter",
        "Direct calls that a version of a model has answered, while it serves or may again.",
        _model_calls(pools),
    )
    lines += _model_durations(pools)
    lines += _sample(
        "skipper_attempts_total",
        "counter",
        "Runs of functions that ended, each of a call or a task that is tried again, too.",
        _attempts(pools),
    )
    for name, text, counts in _HISTOGRAMS:
        lines += _histogram(name, text, _histograms(pools, counts))
    of_tasks = await _of_tasks(context)
    depths = [*_queued(context, of_tasks)]
    depths += [({"pool": pool, "lane": "direct"}, found.queued) for pool, found in pools.items()]
    lines += _sample("skipper_queue_depth", "gauge", "Calls and tasks that wait.", depths)
    lines += _sample(
        "skipper_tasks_total", "counter", "Tasks that reached a terminal state.", _ended(of_tasks)
    )
    for name, text, samples in _bounded(context, of_tasks):
        lines += _sample(name, "gauge", text, samples)
    lines += _sample("skipper_functions", "gauge", "Functions by state.", _functions(context))
    lines += _sample("skipper_broken_files", "gauge", "Files that do not load.", _broken(context))
    lines += _sample("skipper_instances", "gauge", "Instances by state.", _instances(pools))
    lines += _own(pools)
    lines += _sample(
        "skipper_model_unfit", "gauge", "Versions in production that do not load.", _unfit(pools)
    )
    lines += _sample("skipper_reloads_total", "counter", "Changed files followed.", _reloads(pools))
    lines += _sample("skipper_refused_total", "counter", "Requests not let in.", refusals.samples())
    return lines + list(_of_memory(context.budget))


def _of_memory(budget: Budget) -> Iterator[str]:
    """What this gateway process holds of callers."""
    held = [({"use": use.value}, budget.taken(use)) for use in Use]
    yield from _sample(
        "skipper_gateway_memory_bytes",
        "gauge",
        "Bodies and answers that callers make it hold.",
        held,
    )
    yield from _sample(
        "skipper_gateway_memory_limit_bytes", "gauge", "gateway.memory_mb.", [({}, budget.room)]
    )
    yield from _sample(
        "skipper_gateway_waiting_bodies", "gauge", "Bodies without room.", [({}, budget.waiting)]
    )
    yield from _sample(
        "skipper_gateway_cut_total", "counter", "Callers cut to make room.", [({}, budget.cut)]
    )


class _OfTasks(NamedTuple):
    """What the ledger counts: tasks that wait and have ended, bytes that they keep."""

    waiting: dict[tuple[str, State], int]
    ended: dict[Total, int]
    by_function: dict[str, int]
    """Those that wait, as far as they may."""
    stored: int


async def _of_tasks(context: Context) -> _OfTasks | None:
    """None while the ledger is away."""
    functions = [each.spec.name for each in context.directory.functions()]
    most = context.settings.tasks.waiting
    try:
        return await context.ledger.read(
            lambda conn: _OfTasks(
                waiting=tasks.counts(conn),
                ended=totals.read(conn),
                by_function={name: tasks.number_waiting(conn, name, most) for name in functions},
                stored=usage.read(conn),
            )
        )
    except SkipperError:
        return None


def _queued(context: Context, counted: _OfTasks | None) -> Samples:
    for pool in context.settings.pools if counted else ():
        assert counted is not None
        yield {"pool": pool, "lane": "tasks"}, counted.waiting.get((pool, State.QUEUED), 0)


def _ended(counted: _OfTasks | None) -> Samples:
    return [(total._asdict(), count) for total, count in counted.ended.items()] if counted else []


def _bounded(context: Context, counted: _OfTasks | None) -> Iterator[tuple[str, str, Samples]]:
    """What the settings bound, beside its bounds."""
    bounds = bounds_of(context.settings.tasks)
    waiting = counted.by_function.items() if counted else ()
    yield (
        "skipper_tasks_waiting",
        "Tasks that wait, up to how many may.",
        [({"function": name}, number) for name, number in waiting],
    )
    yield "skipper_tasks_waiting_limit", "How many of a function may.", [({}, bounds.waiting)]
    yield (
        "skipper_tasks_stored_bytes",
        "Inputs and results that tasks keep.",
        [({}, counted.stored)] if counted else [],
    )
    yield "skipper_tasks_stored_limit_bytes", "How much they may.", [({}, bounds.stored)]


def _calls(pools: dict[str, MetricsSnapshot]) -> Samples:
    for pool, found in pools.items():
        for each in found.calls:
            yield {"function": each.function, "pool": pool, "outcome": each.outcome}, each.count


def _of_models(pools: dict[str, MetricsSnapshot]) -> Iterator[tuple[dict[str, str], ModelCalls]]:
    for pool, found in pools.items():
        for each in found.models:
            labels = {"model": each.model, "version": str(each.version)}
            yield labels | {"function": each.function, "pool": pool}, each


def _model_calls(pools: dict[str, MetricsSnapshot]) -> Samples:
    for labels, each in _of_models(pools):
        for outcome, count in each.outcomes.items():
            yield labels | {"outcome": outcome}, count


def _model_durations(pools: dict[str, MetricsSnapshot]) -> Iterator[str]:
    series = ((labels, each.duration) for labels, each in _of_models(pools))
    text = "Direct calls that a version of a model has answered."
    return _histogram("skipper_model_call_duration_seconds", text, series)


def _attempts(pools: dict[str, MetricsSnapshot]) -> Samples:
    for pool, found in pools.items():
        for each in found.attempts:
            labels = {"function": each.function, "pool": pool, "lane": each.lane}
            yield labels | {"outcome": each.outcome}, each.count


def _functions(context: Context) -> Samples:
    for each in context.directory.functions():
        labels = {"function": each.spec.name, "pool": each.spec.pool}
        yield labels | {"state": each.state.value}, 1


def _broken(context: Context) -> Samples:
    yield {}, len({item.file for item in context.directory.broken()})


def _instances(pools: dict[str, MetricsSnapshot]) -> Samples:
    counted: Counter[tuple[str, str]] = Counter()
    for found in pools.values():
        for each in found.instances:
            counted[each.function, each.state] += each.count
    for (function, state), count in counted.items():
        yield {"function": function, "state": state}, count


def _unfit(pools: dict[str, MetricsSnapshot]) -> Samples:
    for pool, found in pools.items():
        for each in found.unfit:
            yield {"model": each.model, "version": str(each.version), "pool": pool}, 1


def _reloads(pools: dict[str, MetricsSnapshot]) -> Samples:
    counted: Counter[str] = Counter()
    for found in pools.values():
        counted.update(found.reloads)
    for outcome, count in counted.items():
        yield {"outcome": outcome}, count


def _sample(name: str, kind: str, text: str, samples: Samples) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        yield f"{name}{_labels(labels)} {value!r}\n"


def _own(pools: dict[str, MetricsSnapshot]) -> Iterator[str]:
    """What functions count and observe themselves: a family for each name."""
    counts: dict[str, list[Sample]] = {}
    histograms: dict[str, list[tuple[dict[str, str], HistogramCounts]]] = {}
    left_out: list[Sample] = []
    for labels, own in _by_function(pools):
        left_out.append((labels, own.left_out))
        for each in own.series:
            if isinstance(each.counted, HistogramCounts):
                found = histograms.setdefault(f"skipper_function_{each.name}", [])
                found.append((labels | each.labels, each.counted))
            else:
                name = f"skipper_function_{each.name}_total"
                counts.setdefault(name, []).append((labels | each.labels, each.counted))
    for name, samples in sorted(counts.items()):
        yield from _sample(name, "counter", "Counted by functions: run.count.", samples)
    for name, series in sorted(histograms.items()):
        yield from _histogram(name, "Observed by functions: run.observe.", series)
    text = "Times that a function counted or observed what is not shown."
    yield from _sample("skipper_own_metrics_left_out_total", "counter", text, left_out)


def _by_function(
    pools: dict[str, MetricsSnapshot],
) -> Iterator[tuple[dict[str, str], OwnMetrics]]:
    for pool, found in pools.items():
        for function, own in found.own.items():
            yield {"function": function, "pool": pool}, own


def _histograms(
    pools: dict[str, MetricsSnapshot],
    counts: Callable[[MetricsSnapshot], dict[str, HistogramCounts]],
) -> Iterator[tuple[dict[str, str], HistogramCounts]]:
    for pool, found in pools.items():
        for function, histogram in counts(found).items():
            yield {"function": function, "pool": pool}, histogram


def _histogram(
    name: str, text: str, series: Iterable[tuple[dict[str, str], HistogramCounts]]
) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} histogram\n"
    for labels, histogram in series:
        seen = 0
        bounds = (*map(str, histogram.bounds), "+Inf")
        for bound, count in zip(bounds, histogram.counts, strict=True):
            seen += count
            yield f"{name}_bucket{_labels(labels | {'le': bound})} {seen}\n"
        yield f"{name}_sum{_labels(labels)} {histogram.sum!r}\n"
        yield f"{name}_count{_labels(labels)} {seen}\n"


def _labels(labels: dict[str, str]) -> str:
    pairs = ",".join(f'{key}="{value.translate(_ESCAPES)}"' for key, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""
