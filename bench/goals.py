"""What the figures are to reach, and what else they are to be read beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.figures import Figures, Spread

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One line of a table. ``measure`` gives None where something was not measured."""

    what: str
    measure: Callable[[Figures], Spread | None]
    unit: str = TIMES

    @property
    def suffix(self) -> str:
        return self.unit if self.unit == TIMES else f" {self.unit}"


@dataclass(frozen=True, kw_only=True)
class Goal(Comparison):
    """A line that is to reach a limit."""

    limit: float
    is_least: bool

    @property
    def wanted(self) -> str:
        return f"{'≥' if self.is_least else '≤'} {self.limit:g}{self.suffix}"

    def is_met(self, found: Spread) -> bool:
        return found.median >= self.limit if self.is_least else found.median <= self.limit


def ratio(above: str, below: str) -> Callable[[Figures], Spread | None]:
    return lambda figures: figures.ratio(above, below)


def value(name: str) -> Callable[[Figures], Spread | None]:
    return lambda figures: figures.spread(name)


def keras_rate(peer: str) -> Callable[[Figures], Spread | None]:
    """Skipper against the fastest of those whose names begin so."""

    def measure(figures: Figures) -> Spread | None:
        best = figures.best(f"keras.{peer}_", ".64.per_s")
        return figures.ratio("keras.skipper.64.per_s", best) if best else None

    return measure


def at_least(what: str, limit: float, above: str, below: str) -> Goal:
    return Goal(what=what, limit=limit, is_least=True, measure=ratio(above, below))


def at_most(what: str, limit: float, above: str, below: str) -> Goal:
    return Goal(what=what, limit=limit, is_least=False, measure=ratio(above, below))


def within(what: str, limit: float, name: str) -> Goal:
    """A figure that is to stay below a limit in its own unit, which its name tells."""
    unit = {"mb": "MiB", "times": TIMES}.get(
        found := name.rpartition("_")[2].rpartition(".")[2], found
    )
    return Goal(what=what, limit=limit, is_least=False, measure=value(name), unit=unit)


_DIRECT = "direct call, 13 floats, 16 connections"
_KERAS = "Keras Boston model, 64 connections, batching on"
_TASKS = "tasks ended per second, 16 connections"
_PAGE, _SHOW = "models.first_page", "models.show"

GOALS = (
    at_least(
        f"{_DIRECT}: against LitServe", 9, "direct.skipper.16.per_s", "direct.litserve.16.per_s"
    ),
    at_least(
        f"{_DIRECT}: against FastAPI `async def` in-process",
        1.6,
        "direct.skipper.16.per_s",
        "direct.fastapi.16.per_s",
    ),
    at_least(
        f"{_DIRECT}: against raw Starlette in-process",
        0.7,
        "direct.skipper.16.per_s",
        "direct.starlette.16.per_s",
    ),
    within("p50 of a direct call at 1 connection", 0.4, "direct.skipper.1.p50_ms"),
    at_most(
        "p50 at 1 connection, against LitServe",
        0.4,
        "direct.skipper.1.p50_ms",
        "direct.litserve.1.p50_ms",
    ),
    Goal(
        what=f"{_KERAS}: against LitServe, its model called as it documents, "
        "at its best batch size",
        limit=6,
        is_least=True,
        measure=keras_rate("litserve_called"),
    ),
    at_most(
        "Keras Boston model, p50 at 1 connection, against LitServe without batching",
        0.6,
        "keras.skipper.1.p50_ms",
        "keras.litserve_called_1.1.p50_ms",
    ),
    at_least(
        f"{_TASKS}, SQLite: against FastAPI + Celery + Redis",
        2.5,
        "tasks.skipper.ended_per_s",
        "tasks.recipe.ended_per_s",
    ),
    at_most(
        "one task, submitted → seen to have ended, p50: against that recipe",
        1.3,
        "tasks.skipper.one_p50_ms",
        "tasks.recipe.one_p50_ms",
    ),
    within("first page of a model's versions, 100,000 of them", 20, f"{_PAGE}.100000.p50_ms"),
    within("one of 100,000 versions shown", 20, f"{_SHOW}.100000.p50_ms"),
    at_most(
        "first page, 100,000 versions against 100",
        1.2,
        f"{_PAGE}.100000.p50_ms",
        f"{_PAGE}.100.p50_ms",
    ),
    at_most(
        "one shown, 100,000 versions against 100",
        1.2,
        f"{_SHOW}.100000.p50_ms",
        f"{_SHOW}.100.p50_ms",
    ),
    at_least(
        f"{_TASKS}, RabbitMQ + PostgreSQL: against the recipe",
        1.5,
        "tasks.skipper_rabbitmq_postgres.ended_per_s",
        "tasks.recipe.ended_per_s",
    ),
    within("first answer of a new TensorFlow instance with a model", 0.7, "cold.with_model.s"),
    within("the same without a model", 0.2, "cold.without_model.s"),
    within(
        "private memory of each further TensorFlow instance", 100, "memory.with_model.private_mb"
    ),
    within("start → first answer of a plain function", 2, "start.skipper.s"),
    within(
        "the same beside a file that imports TensorFlow",
        2,
        "start.skipper_beside_tensorflow.s",
    ),
    at_most(
        "inference p99 at 50 calls/s while every core trains, against idle",
        5,
        "training.busy.p99_ms",
        "training.idle.p99_ms",
    ),
    within("errors among those calls", 0, "training.busy.errors"),
    at_most(
        "processor time of gateway and host per call, 1,000 functions against 1",
        1.1,
        "growth.1000.us_per_call",
        "growth.1.us_per_call",
    ),
    within("processes of the idle ones among 1,000 functions", 0, "growth.1000.idle_processes"),
    at_least(
        "a picture of 1 MB, 16 connections: against raw Starlette in-process",
        0.6,
        "values.picture.skipper.per_s",
        "values.picture.starlette.per_s",
    ),
    at_least(
        "the same, against LitServe",
        3,
        "values.picture.skipper.per_s",
        "values.picture.litserve.per_s",
    ),
    at_least(
        "the same, against BentoML",
        3,
        "values.picture.skipper.per_s",
        "values.picture.bentoml.per_s",
    ),
    at_most(
        "an array of 4 MiB there and back, p50: against raw Starlette, which looks at none of it",
        2,
        "values.array.skipper.p50_ms",
        "values.array.starlette.p50_ms",
    ),
    at_most(
        "the same, against a quarter of its numbers as JSON",
        0.4,
        "values.array.skipper.p50_ms",
        "values.array.skipper_json_quarter.p50_ms",
    ),
    at_least(
        "13 floats of each of 64 callers, `batch=256`: as an array against lists",
        1,
        "values.rows.arrays.per_s",
        "values.rows.lists.per_s",
    ),
    at_most(
        "1 GiB in, through a task, and out: against `cp` and `sha256sum` each way",
        2,
        "values.file.skipper_s",
        "values.file.by_hand_s",
    ),
    within(
        "memory that gateway, scheduler, host or consumer gain by that", 64, "values.file.most_mb"
    ),
    within(
        "calls that fail while versions are exchanged at 200 calls/s", 0, "models.skipper.failed"
    ),
    within("answers by a version that was not in production", 0, "models.skipper.wrong"),
    within("p99 meanwhile, against the same without", 1.5, "models.skipper.p99_times"),
    within("the worst of those calls", 250, "models.skipper.worst_ms"),
    within("going back to the version before", 1000, "models.skipper.change_ms"),
    within(
        "the first call to a promoted version, against the median",
        1.5,
        "models.skipper.first_times",
    ),
    within(
        "p99 while 500 MB are loaded for another function, against the same without",
        1.3,
        "models.large.p99_times",
    ),
    at_least(
        "saving a model of 1 GiB: against `cp`, `sync` and `sha256sum`",
        0.5,
        "models.save_mb_per_s",
        "models.copy_and_hash_mb_per_s",
    ),
    at_most(
        "an array of 100 MiB to another pool and back: against `numpy.save` and `load` of it",
        3,
        "values.hop.passed_s",
        "values.hop.file_s",
    ),
    within(
        "1,000 forks of a TensorFlow template that fit and predict: hung or failed",
        0,
        "forks.template.failed",
    ),
    within(
        "100,000 direct calls with hang-ups and kills: answers crossed, doubled or missing",
        0,
        "nonce.calls.mismatches",
    ),
)
"""In the order of the page."""

COMPARISONS = (
    Comparison(
        what=f"{_DIRECT}: against the bare relay",
        measure=ratio("direct.skipper.16.per_s", "direct.bare.16.per_s"),
    ),
    Comparison(
        what="direct call, 13 floats, 64 connections: against the bare relay",
        measure=ratio("direct.skipper.64.per_s", "direct.bare.64.per_s"),
    ),
    Comparison(
        what="p50 of a direct call at 1 connection: against the bare relay",
        measure=ratio("direct.skipper.1.p50_ms", "direct.bare.1.p50_ms"),
    ),
    Comparison(
        what=f"{_DIRECT}: the bare relay against raw Starlette in-process",
        measure=ratio("direct.bare.16.per_s", "direct.starlette.16.per_s"),
    ),
    Comparison(
        what=f"{_KERAS}: against the best of all LitServe's, a `tf.function` of the user's own too",
        measure=keras_rate("litserve"),
    ),
    Comparison(
        what="tasks ended per second, SQLite: against commits of one row each, one after another",
        measure=ratio("tasks.skipper.ended_per_s", "tasks.disk.commits_per_s"),
    ),
)
"""No goals: floors on the machine at hand, and peers at more than their documentation asks."""
