"""What is kept of a run, and the page that is made of what was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import results, tables
from bench.goals import COMPARISONS, GOALS

FAST = {"start.skipper.s": 1.0}
SLOW = {"start.skipper.s": 9.0}


def section(figures: dict[str, float], **told: Any) -> dict[str, Any]:
    return {
        "commit": "abc",
        "at": "2026-01-01 00:00 UTC",
        "machine": {"memory": "1 GiB"},
        "versions": {"wrk": "4"},
        "took_s": 1.0,
        "load_before": 0.1,
        "rounds": 1,
        "seconds": 4.0,
        "notes": [],
        "error": "",
        "figures": {name: {"median": value, "rounds": [value]} for name, value in figures.items()},
    } | told


def test_a_section_takes_the_place_of_its_earlier_run_alone() -> None:
    kept = {"start": section(SLOW, commit="old"), "cold": section({}, commit="old")}
    merged = results.merged(kept, {"start": section(FAST, commit="new")})
    assert {name: told["commit"] for name, told in merged.items()} == {
        "start": "new",
        "cold": "old",
    }
    assert results.figures(merged).rounds["start.skipper.s"] == [1.0]


def test_a_section_that_failed_leaves_the_figures_of_its_earlier_run() -> None:
    failed = section(SLOW, error="Traceback: it broke")
    assert results.merged({"start": section(FAST)}, {"start": failed}) == {"start": section(FAST)}
    assert results.merged({}, {"start": failed}) == {}


def test_sections_are_kept_in_the_order_of_the_page() -> None:
    run = {name: section({}) for name in ("nonce", "queue", "direct")}
    assert list(results.merged({}, run)) == ["direct", "queue", "nonce"]


def test_what_was_saved_is_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.json"
    assert results.load(file) == {}
    results.save({"start": section(FAST)}, file)
    assert results.load(file) == {"start": section(FAST)}


def test_the_page_tells_of_which_commit_each_section_is() -> None:
    page = results.page({"start": section(FAST, commit="new"), "cold": section({}, commit="old")})
    assert "Commit new, 2026-01-01" in page
    assert "Commit old, 2026-01-01" in page


def test_versions_on_which_all_sections_agree_stand_once() -> None:
    page = results.page({"start": section(FAST), "cold": section({})})
    assert page.count("- wrk: 4") == 1
    assert "cold:" not in page


def test_versions_on_which_sections_differ_stand_with_their_sections() -> None:
    other = section({}, versions={"wrk": "5"})
    page = results.page({"start": section(FAST), "cold": section({}), "queue": other})
    assert "start, cold:\n\n- wrk: 4\n\nqueue:\n\n- wrk: 5" in page


def test_a_goal_without_figures_says_so() -> None:
    page = results.page({})
    assert page.startswith("# Benchmarks")
    lines = [line for line in page.splitlines() if tables.NOT_MEASURED in line]
    assert len(lines) == len(GOALS) + len(COMPARISONS)
    assert all(any(goal.what in line for line in lines) for goal in GOALS)
