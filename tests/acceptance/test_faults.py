"""Whoever is killed with -9, nothing is lost, nothing runs twice, nothing stays behind.

A small share of ``python -m tests.chaos``, which runs the same with any size and seed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import campaign
from tests.chaos.plan import Round
from tests.chaos.points import every
from tests.chaos.report import Outcome, table


def broken_promises(outcome: Outcome) -> list[str]:
    print(table(outcome))
    return [f"{violation.kind}: {violation.text}" for violation in outcome.violations]


def run(round_: Round, folder: Path) -> Outcome:
    return campaign.run(round_, folder, restart=False, settle_s=1.0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_of_every_role_and_faults_at_every_failpoint_lose_and_double_nothing(
    tmp_path: Path,
) -> None:
    round_ = Round(seed=1, tasks=250, kills=1, pause_s=4.0, points=every(), kill_share=0.25)
    outcome = run(round_, tmp_path)
    assert broken_promises(outcome) == []
    assert outcome.figures.hits.keys() == set(every())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_host_that_slept_longer_than_its_lease_ends_no_task_of_others(tmp_path: Path) -> None:
    round_ = Round(seed=1, tasks=60, kills=0, stops=1, pause_s=2.0, points=("scheduler.rescued",))
    outcome = run(round_, tmp_path)
    assert broken_promises(outcome) == []
    assert outcome.figures.hits == {"scheduler.rescued": 1}
