"""Calls under fire: callers hang up, instances are killed, and nobody gets another's answer."""

from __future__ import annotations

import pytest

from bench.sections import nonce


@pytest.mark.timeout(300)
def test_every_call_gets_its_own_answer_and_one_only() -> None:
    outcome = nonce.storm(3000, seed=7, kill_every=100)
    assert outcome.violations == []
    assert outcome.calls == 3000
    assert outcome.kills > 0
    assert outcome.answers[200] > 2000
