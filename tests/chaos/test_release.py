"""A campaign does what its size says, goes on where it was interrupted, and adds itself up."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import summary
from tests.chaos.campaign import tracebacks
from tests.chaos.evidence import Violation
from tests.chaos.memory import LONG, Sample, slopes
from tests.chaos.plan import BACKENDS, ROLES, Round
from tests.chaos.points import REACHED
from tests.chaos.record import Record
from tests.chaos.report import Figures, Outcome, total
from tests.chaos.sizes import SIZES, missing, plan

SMALL = SIZES["small"]
KILLS = dict.fromkeys((*ROLES, "launcher"), SMALL.kills)
WHOLE = Figures(tasks=SMALL.tasks, faults=KILLS, hits=dict.fromkeys(REACHED, SMALL.hits))


def outcome(round_: Round, figures: Figures = WHOLE, *violations: Violation) -> Outcome:
    return Outcome(round=round_, violations=violations, figures=figures)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_rounds_of_a_back_end_add_up_to_the_size(size, backend) -> None:  # type: ignore[no-untyped-def] # of parametrize
    rounds = [each for each in plan(size) if each.backend == backend]
    assert sum(each.tasks for each in rounds) == size.tasks
    assert sum(each.kills for each in rounds) == size.kills
    assert sum(each.launchers for each in rounds) == size.kills
    points = Counter(point for each in rounds for point in each.points)
    assert points == dict.fromkeys(REACHED, size.hits)


def test_no_two_rounds_share_a_seed() -> None:
    seeds = [each.seed for each in plan(SIZES["release"])]
    assert len(set(seeds)) == len(seeds)


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    record = Record(tmp_path, "test")
    first, second, *_ = plan(SMALL)
    record.keep_plan([first, second])
    record.add(outcome(first, total([WHOLE])))
    again = Record(tmp_path, "test")
    again.keep_plan([second])
    assert again.plan() == [first, second]
    assert [again.has(each) for each in again.plan()] == [True, False]
    assert again.rows()[0].round == first
    assert again.total(first.backend) == WHOLE


def test_nothing_is_made_up_for_where_nothing_is_missing() -> None:
    assert missing(SMALL, "valkey", WHOLE, seed=9) is None


def test_what_is_missing_is_made_up_for() -> None:
    lacking = replace(
        WHOLE,
        tasks=SMALL.tasks - 7,
        faults=KILLS | {"host": SMALL.kills - 3, "template": 0},
        hits={point: SMALL.hits for point in REACHED if point != "intake.begun"},
    )
    round_ = missing(SMALL, "rabbit", lacking, seed=9)
    assert round_ is not None
    assert (round_.roles, round_.kills, round_.launchers) == (("host",), 3, 0)
    assert round_.points == ("intake.begun",)
    assert (round_.backend, round_.seed) == ("rabbit", 9)


def test_figures_add_up() -> None:
    one = Figures(tasks=1, calls={"200": 2}, recovery={"host": 1.0}, growth={"cpu": 0.2}, seconds=3)
    two = Figures(tasks=2, calls={"200": 3, "502": 1}, recovery={"host": 2.0}, growth={"cpu": 0.4})
    both = total([one, two])
    assert (both.tasks, both.calls, both.seconds) == (3, {"200": 5, "502": 1}, 3)
    assert (both.recovery, both.growth) == ({"host": 2.0}, {"cpu": 0.3})


def test_the_table_tells_of_each_back_end_and_of_what_is_rare(tmp_path: Path) -> None:
    record = Record(tmp_path, "test")
    first, *_, last = plan(SMALL)
    record.add(outcome(first))
    few = replace(WHOLE, hits={}, found={"lost": 1})
    record.add(outcome(last, few, Violation("lost", "a task")))
    shown = summary.table(record.rows(), SMALL)
    assert "| **lost** | 0 | 1 |" in shown
    assert f"each {SMALL.hits} or more |" in shown
    assert "fewer than 1: 0 intake.begun" in shown
    assert "| kills: host | 10 | 10 |" in shown
    assert not summary.is_good(record.rows())


def test_the_table_takes_the_place_of_the_one_before() -> None:
    page = f"before\n{summary.BEGIN}old\n{summary.END}after\n"
    assert (
        summary.put_into(page, "new\n") == f"before\n{summary.BEGIN}\nnew\n\n{summary.END}after\n"
    )


def test_a_slope_is_that_of_the_life_after_the_warm_up_whatever_lies_far_off() -> None:
    grown = [Sample("cpu", 1, 10 * n, 50 + 0.01 * n + 40 * (n < LONG / 3)) for n in range(2 * LONG)]
    grown[-5] = grown[-5]._replace(mb=900.0)
    short = [Sample("gateway", 2, n, n) for n in range(LONG - 1)]
    idle = [Sample("gpu", 3, 0, 70.0) for _ in range(LONG)]
    assert slopes([*grown, *short, *idle]) == {"cpu": 1.0}


def test_errors_that_a_failpoint_raised_are_no_finding() -> None:
    begin = "Traceback (most recent call last)"
    log = [
        {"name": "cpu", "message": "x", "traceback": f"{begin}:\n  File\nKeyError: 1"},
        {"name": "cpu", "message": "x", "traceback": f"{begin}:\n  File\nFailpointError: y"},
        {"name": "scheduler", "message": f"{begin}:"},
        {"name": "cpu", "message": "between"},
        {"name": "scheduler", "message": "  File"},
        {"name": "scheduler", "message": "ValueError: 2"},
        {"name": "scheduler", "message": f"{begin}:"},
        {"name": "scheduler", "message": "  killed here"},
        {"name": "scheduler", "message": "its successor", "logger": "skipper.tasks.broker"},
        {"name": "scheduler", "message": f"{begin}:"},
        {"name": "scheduler", "message": "skipper.failpoints.FailpointError: z"},
    ]
    assert list(tracebacks(log)) == ["cpu: KeyError: 1", "scheduler: ValueError: 2"]
