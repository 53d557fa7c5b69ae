"""How much of a pool runs at once; what each lane makes of its slots is in their own tests."""

import pytest

from skipper.pool.slots import Capacity, Slots
from skipper.settings.pools import PoolSettings


@pytest.mark.parametrize(
    ("slots", "cores", "threads"), [(1, 8, 8), (2, 8, 4), (3, 8, 2), (0, 8, 1), (16, 8, 1)]
)
def test_direct_calls_share_the_cores_by_how_many_may_run_at_once(
    slots: int, cores: int, threads: int
) -> None:
    assert Capacity.of(PoolSettings(slots=slots), cores).direct_threads == threads


def test_a_slot_that_is_lent_and_in_use_again_counts_once_more_when_it_is_taken_back() -> None:
    slots = Slots(1)
    slots.take()
    slots.lend()
    assert (slots.free, slots.busy) == (1, 0)
    slots.take()
    slots.take_back()
    assert (slots.free, slots.busy) == (-1, 2)
    slots.leave()
    slots.leave()
    assert (slots.free, slots.busy) == (1, 0)
