"""A share of the decoders' campaign, in this process: a crash here is a crash of the tests."""

from __future__ import annotations

import random

import pytest

from tests.security.mutations import decoders, models

CASES = 400


@pytest.mark.parametrize("name", decoders.NAMES)
@pytest.mark.filterwarnings("ignore")
def test_what_is_nearly_sound_is_read_or_refused(name: str) -> None:
    read, sound = decoders.SAMPLES[name]
    rng = random.Random(f"{name} 7")
    outcomes = set()
    for _ in range(CASES):
        case = decoders.mutant(rng, rng.choice(sound))
        try:
            read(case)
            outcomes.add("read")
        except ValueError:
            outcomes.add("refused")
    assert "refused" in outcomes
    assert "read" in outcomes or name in models.FRAGILE
