"""How long to wait before a function is tried again."""

from __future__ import annotations

import random

from skipper.spec import BACKOFF_S


def pause_s(first_s: float, spent: int) -> float:
    """Seconds before the next attempt, ``spent`` of which have failed.

    Shortened at random by up to a half, so that what failed together does not come back together.
    """
    return longest_pause_s(first_s, spent) * random.uniform(0.5, 1.0)


def longest_pause_s(first_s: float, spent: int) -> float:
    """How long that pause may be: ``first_s`` after the first failure, then twice as long each."""
    return min(BACKOFF_S[1], first_s * 2.0 ** min(spent - 1, 64))
