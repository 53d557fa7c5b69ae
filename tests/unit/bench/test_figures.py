"""What follows from measured figures: spreads, ratios round by round, goals, tables."""

from __future__ import annotations

import pytest

from bench import tables
from bench.figures import Figures, Spread
from bench.goals import Goal, at_least, keras_rate, within
from bench.sections import ALL


def figures(**rounds: list[float]) -> Figures:
    return Figures({name.replace("__", "."): values for name, values in rounds.items()})


def test_a_ratio_is_taken_round_by_round() -> None:
    found = figures(a=[10.0, 30.0, 20.0], b=[5.0, 10.0, 20.0]).ratio("a", "b")
    assert found == Spread(2.0, 1.0, 3.0)


def test_what_was_not_measured_has_neither_spread_nor_ratio() -> None:
    found = figures(a=[1.0])
    assert (found.spread("b"), found.ratio("a", "b"), found.ratio("b", "a")) == (None, None, None)


def test_a_ratio_to_nothing_is_none() -> None:
    assert figures(a=[1.0], b=[0.0]).ratio("a", "b") is None


@pytest.mark.parametrize(
    ("goal", "median", "is_met"),
    [
        (at_least("as fast", 2, "a", "b"), 2.0, True),
        (at_least("as fast", 2, "a", "b"), 1.9, False),
        (within("as soon", 0.4, "x.p50_ms"), 0.4, True),
        (within("as soon", 0.4, "x.p50_ms"), 0.5, False),
    ],
)
def test_a_goal_is_met_from_its_limit_on(goal: Goal, median: float, is_met: bool) -> None:
    assert goal.is_met(Spread(median, median, median)) is is_met


def test_a_limit_has_the_unit_of_its_figure() -> None:
    wanted = [within("", 1, name).wanted for name in ("a.p50_ms", "a.s", "a.private_mb")]
    assert wanted == ["≤ 1 ms", "≤ 1 s", "≤ 1 MiB"]


def test_the_best_is_that_with_the_highest_median() -> None:
    found = figures(k__one__per_s=[1.0, 9.0, 2.0], k__two__per_s=[3.0, 3.0, 3.0])
    assert found.best("k.", ".per_s") == "k.two.per_s"


def test_a_table_shows_the_spread_and_leaves_out_what_was_not_measured() -> None:
    found = figures(start__skipper__s=[1.0, 1.5, 1.25], start__uvicorn__s=[0.5])
    [(_, text)] = tables.described(found, "start")
    assert "| **Skipper** | 1.25 (1\N{EN DASH}1.5) |" in text
    assert "LitServe" not in text


def test_every_table_belongs_to_a_section() -> None:
    assert {table.section for table in tables.TABLES} == set(ALL)


def test_keras_is_set_beside_the_fastest_of_those_that_are_meant() -> None:
    found = figures(
        keras__skipper__64__per_s=[60.0],
        keras__litserve_called_1__64__per_s=[1.0],
        keras__litserve_called_64__64__per_s=[10.0],
        keras__litserve_compiled_64__64__per_s=[20.0],
    )
    assert keras_rate("litserve_called")(found) == Spread(6.0, 6.0, 6.0)
    assert keras_rate("litserve")(found) == Spread(3.0, 3.0, 3.0)
