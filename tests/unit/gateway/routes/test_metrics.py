"""`/metrics`, read as Prometheus reads it."""

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from skipper.errors import UnavailableError
from skipper.function.tallies import BUCKETS, MOST_SERIES, Tallies, counted, observed
from skipper.gateway.access.refusals import Reason, Refusals
from skipper.gateway.budget import Budget
from skipper.gateway.context import Context
from skipper.gateway.routes.metrics import _OfTasks, exposition
from skipper.instance.jobs import ModelRef
from skipper.ledger.connection import Total
from skipper.outcomes import Outcome
from skipper.pool.metrics import BUCKETS_S, CallFigures, EditionFigures, PoolMetrics
from skipper.settings.model import TaskSettings
from skipper.spec import BrokenFile
from skipper.task import State
from skipper.wire.messages import (
    FunctionState,
    GetMetrics,
    ListedFunction,
    MetricsSnapshot,
    Question,
    UnfitVersion,
)
from tests.unit.pool.played import spec_of

BROKEN = [
    BrokenFile(file="functions/a.py", error="", function="a.f"),
    BrokenFile(file="functions/a.py", error="", function="a.g"),
    BrokenFile(file="plugins/b.py", error=""),
]

_LINE = re.compile(r'([a-z_]+)(|\{(?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*\}) (\S+)')


class Link:
    """A pool's host that answers with its counts, or not at all."""

    def __init__(
        self,
        metrics: PoolMetrics | None,
        *,
        queued: int = 0,
        instances: Sequence[tuple[str, str]] = (),
        unfit: Sequence[UnfitVersion] = (),
    ) -> None:
        self._metrics, self._queued, self._instances = metrics, queued, instances
        self._unfit = unfit

    async def ask(self, question: Question[Any], limit_s: float) -> MetricsSnapshot:
        assert question == GetMetrics()
        if self._metrics is None:
            raise UnavailableError("away")
        sent = self._metrics.snapshot(
            queued=self._queued, instances=self._instances, unfit=self._unfit
        )
        return GetMetrics().parse_answer(sent.to_json())


class FullLedger:
    """A ledger in which tasks wait and have ended."""

    async def read(self, _: Any) -> Any:
        waiting = {("cpu", State.QUEUED): 100_000}
        return _OfTasks(waiting, {Total("f.f", "cpu", "failed"): 7}, {"f.f": 9_000}, 1234)


class AwayLedger:
    async def read(self, _: Any) -> Any:
        raise UnavailableError("away")


async def samples(
    ledger: Any = None,
    refusals: Refusals | None = None,
    functions: Sequence[ListedFunction] = (),
    budget: Budget | None = None,
    **links: Link,
) -> dict[str, float]:
    """Every sample by its name and labels; each line is well formed and given once."""
    context = SimpleNamespace(
        directory=SimpleNamespace(links=links, functions=lambda: functions, broken=lambda: BROKEN),
        ledger=ledger or AwayLedger(),
        settings=SimpleNamespace(pools=["cpu", "gpu"], tasks=TaskSettings()),
        budget=budget or Budget(1000, 100),
    )
    found: dict[str, float] = {}
    text = "".join(await exposition(cast(Context, context), refusals or Refusals()))
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        assert match is not None, line
        assert match[1] + match[2] not in found
        found[match[1] + match[2]] = float(match[3])
    return found


async def test_calls_are_counted_by_function_pool_and_outcome() -> None:
    metrics = PoolMetrics()
    for _ in range(3):
        metrics.ended("f.f", Outcome.OK, 0.002)
    metrics.ended("f.f", Outcome.DIED, 0.002)
    found = await samples(cpu=Link(metrics))
    assert found['skipper_calls_total{function="f.f",pool="cpu",outcome="ok"}'] == 3
    assert found['skipper_calls_total{function="f.f",pool="cpu",outcome="died"}'] == 1


async def test_attempts_are_counted_by_function_pool_lane_and_outcome() -> None:
    metrics = PoolMetrics()
    for outcome in (Outcome.FAILED, Outcome.FAILED, Outcome.OK):
        metrics.attempted("f.f", "tasks", outcome)
    metrics.attempted("f.f", "direct", Outcome.OK)
    found = await samples(cpu=Link(metrics))
    name = 'skipper_attempts_total{function="f.f",pool="cpu",lane="%s",outcome="%s"}'
    assert found[name % ("tasks", "failed")] == 2
    assert found[name % ("tasks", "ok")] == found[name % ("direct", "ok")] == 1


async def test_a_histogram_is_cumulative_and_ends_with_its_count() -> None:
    metrics = PoolMetrics()
    for seconds in (0.001, 0.002, 0.3, 1000.0):
        metrics.ended("f.f", Outcome.OK, seconds)
    found = await samples(cpu=Link(metrics))
    name = 'skipper_call_duration_seconds_bucket{function="f.f",pool="cpu",le="%s"}'
    counts = [found[name % bound] for bound in (*BUCKETS_S, "+Inf")]
    assert counts == sorted(counts)
    assert (counts[0], counts[1], counts[-2], counts[-1]) == (1, 2, 3, 4)
    labels = '{function="f.f",pool="cpu"}'
    assert found["skipper_call_duration_seconds_count" + labels] == 4
    assert found["skipper_call_duration_seconds_sum" + labels] == pytest.approx(1000.303)


async def test_large_numbers_lose_no_digits() -> None:
    metrics = PoolMetrics()
    metrics._calls["f.f"].outcomes[Outcome.OK] = 12_345_678
    found = await samples(cpu=Link(metrics))
    assert found['skipper_calls_total{function="f.f",pool="cpu",outcome="ok"}'] == 12_345_678


async def test_calls_are_counted_by_the_version_of_a_model_that_answered() -> None:
    metrics, figures = PoolMetrics(), CallFigures()
    ref = ModelRef(name="net", version=7, digest="d" * 64, format="tiny")
    metrics.editions = lambda: [EditionFigures("f.f", (ref,), figures)]
    for seconds in (0.002, 0.3):
        figures.ended(Outcome.OK, seconds)
    metrics.ended("f.f", Outcome.OK, 0.002)
    found = await samples(cpu=Link(metrics))
    labels = '{model="net",version="7",function="f.f",pool="cpu"'
    assert found[f'skipper_model_calls_total{labels},outcome="ok"}}'] == 2
    assert found[f"skipper_model_call_duration_seconds_count{labels}}}"] == 2
    assert found['skipper_calls_total{function="f.f",pool="cpu",outcome="ok"}'] == 3


async def test_gauges_of_several_pools_are_kept_apart_or_added_up() -> None:
    found = await samples(
        cpu=Link(
            PoolMetrics(),
            queued=3,
            instances=[("f.f", "idle"), ("f.f", "idle"), ("f.f", "busy")],
        ),
        gpu=Link(PoolMetrics(), instances=[("f.f", "idle")]),
    )
    assert found['skipper_queue_depth{pool="cpu",lane="direct"}'] == 3
    assert found['skipper_queue_depth{pool="gpu",lane="direct"}'] == 0
    assert found['skipper_instances{function="f.f",state="idle"}'] == 3


async def test_a_version_in_production_that_does_not_load_is_shown_for_each_pool() -> None:
    unfit = [UnfitVersion(model="boston", version=7, reason="a file is damaged")]
    found = await samples(cpu=Link(PoolMetrics(), unfit=unfit), gpu=Link(PoolMetrics()))
    assert found['skipper_model_unfit{model="boston",version="7",pool="cpu"}'] == 1
    assert 'skipper_model_unfit{model="boston",version="7",pool="gpu"}' not in found


async def test_tasks_that_wait_and_have_ended_are_counted_by_the_ledger() -> None:
    found = await samples(FullLedger(), cpu=Link(PoolMetrics()))
    assert found['skipper_queue_depth{pool="cpu",lane="tasks"}'] == 100_000
    assert found['skipper_queue_depth{pool="gpu",lane="tasks"}'] == 0
    assert found['skipper_tasks_total{function="f.f",pool="cpu",state="failed"}'] == 7
    assert found['skipper_tasks_waiting{function="f.f"}'] == 9_000
    assert found["skipper_tasks_waiting_limit"] == 10_000
    assert found["skipper_tasks_stored_bytes"] == 1234
    assert found["skipper_tasks_stored_limit_bytes"] == 50_000_000_000


async def test_a_pool_or_ledger_that_is_away_leaves_the_rest() -> None:
    metrics = PoolMetrics()
    metrics.ended("f.f", Outcome.OK, 0.002)
    found = await samples(cpu=Link(metrics), gpu=Link(None))
    assert any('pool="cpu"' in name for name in found)
    assert not any('pool="gpu"' in name for name in found)


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline"])
async def test_any_label_can_be_read(name: str) -> None:
    metrics = PoolMetrics()
    metrics.ended(name, Outcome.OK, 0.002)
    assert await samples(cpu=Link(metrics))


async def test_what_is_refused_is_counted_by_reason() -> None:
    refusals = Refusals()
    assert (await samples(refusals=refusals))['skipper_refused_total{reason="key"}'] == 0
    for _ in range(3):
        refusals.record(Reason.KEY, "203.0.113.7")
    found = await samples(refusals=refusals)
    counts = {name: count for name, count in found.items() if "refused" in name}
    assert counts.pop('skipper_refused_total{reason="key"}') == 3
    assert set(counts.values()) == {0}


async def test_functions_are_shown_in_the_state_that_a_caller_would_meet() -> None:
    functions = [
        ListedFunction(spec=spec_of("a.f"), state=FunctionState.FAILING, problem="no"),
        ListedFunction(spec=spec_of("a.g")),
    ]
    found = await samples(functions=functions)
    assert found['skipper_functions{function="a.f",pool="cpu",state="failing"}'] == 1
    assert found['skipper_functions{function="a.g",pool="cpu",state="live"}'] == 1
    assert found["skipper_broken_files"] == 2


def tallied(**words: int) -> Tallies:
    """What one instance says that it has counted and observed."""
    tallies = Tallies()
    for kind, number in words.items():
        tallies.count(counted("words", number, {"kind": kind}))
        tallies.observe(observed("length", number, {"kind": kind}))
    return tallies


async def test_what_two_instances_count_adds_up_and_pools_are_apart() -> None:
    """https://github.com/Lightning-AI/LitServe/issues/339"""
    cpu, gpu = PoolMetrics(), PoolMetrics()
    cpu.tallied("f.f", tallied(read=3, said=1))
    cpu.tallied("f.f", tallied(read=4))
    gpu.tallied("f.f", tallied(read=100))
    found = await samples(cpu=Link(cpu), gpu=Link(gpu))
    counter = 'skipper_function_words_total{function="f.f",pool="%s",kind="%s"}'
    assert found[counter % ("cpu", "read")] == 7
    assert found[counter % ("cpu", "said")] == 1
    assert found[counter % ("gpu", "read")] == 100
    labels = 'function="f.f",pool="cpu",kind="read"'
    assert found[f"skipper_function_length_count{{{labels}}}"] == 2
    assert found[f"skipper_function_length_sum{{{labels}}}"] == 7
    counts = [
        found[f'skipper_function_length_bucket{{{labels},le="{bound}"}}']
        for bound in (*BUCKETS, "+Inf")
    ]
    assert counts == sorted(counts)
    assert counts[-1] == 2


async def test_of_series_that_instances_bring_together_the_first_are_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = PoolMetrics()
    for instance in range(3):
        tallies = Tallies()
        for number in range(MOST_SERIES // 2):
            tallies.count(counted("n", 1, {"user": f"{instance}-{number}"}))
        metrics.tallied("f.f", tallies)
    metrics.tallied("f.g", tallied(read=1))  # which is not its neighbour's fault
    found = await samples(cpu=Link(metrics))
    shown = [name for name in found if name.startswith("skipper_function_n_total")]
    assert len(shown) == MOST_SERIES
    left_out = 'skipper_own_metrics_left_out_total{function="f.%s",pool="cpu"}'
    assert found[left_out % "f"] == MOST_SERIES // 2
    assert found[left_out % "g"] == 0
    (told,) = caplog.messages
    assert (
        told
        == "f.f: some is left out of /metrics: 200 series of this function are shown, the first"
    )


@pytest.mark.parametrize("text", ['quo"te', "back\\slash", "new\nline", "\u2028", ""])
async def test_any_label_of_a_function_can_be_read(text: str) -> None:
    metrics, tallies = PoolMetrics(), Tallies()
    tallies.count(counted("n", 1, {"a": text}))
    metrics.tallied("f.f", tallies)
    assert "skipper_function_n_total" in "".join(await samples(cpu=Link(metrics)))
