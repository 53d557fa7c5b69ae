"""Whoever is killed with -9, nothing is lost, nothing runs twice, nothing stays behind.

A small share of ``python -m tests.chaos``, which runs the same with any size and seed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import campaign
from tests.chaos.plan import Round
from tests.chaos.report import Outcome, table


def broken_promises(outcome: Outcome) -> list[str]:
    print(table(outcome))
    return [f"{violation.kind}: {violation.text}" for violation in outcome.violations]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kills_of_every_role_lose_and_double_nothing(tmp_path: Path) -> None:
    round_ = Round(seed=1, tasks=150, kills=2, pause_s=0.8)
    assert broken_promises(campaign.run(round_, tmp_path, restart=False, settle_s=1.0)) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_host_that_slept_longer_than_its_lease_ends_no_task_of_others(tmp_path: Path) -> None:
    round_ = Round(seed=1, tasks=60, kills=0, stops=1, pause_s=2.0)
    assert broken_promises(campaign.run(round_, tmp_path, restart=False, settle_s=1.0)) == []
