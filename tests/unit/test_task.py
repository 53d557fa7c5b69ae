from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from skipper.task import _Clock, first_id, new_id

TIMES = st.floats(0, 10_000_000_000)


def test_ids_are_26_plain_characters() -> None:
    assert re.fullmatch("[0-9a-v]{26}", new_id())


def test_ids_of_one_process_sort_by_creation_whichever_thread_made_them() -> None:
    ids = [new_id() for _ in range(2000)]
    assert ids == sorted(ids)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: new_id(), range(2000)))
    assert len(set(made)) == 2000
    assert min(made) > max(ids)


def test_neighbours_share_nothing_but_the_time() -> None:
    tails = {new_id()[10:] for _ in range(1000)}
    assert len({tail[:4] for tail in tails}) > 900


def test_first_id_parts_the_ids_of_before_from_those_of_after() -> None:
    before = new_id()
    parting = first_id(time.time() + 1)
    assert before < parting < first_id(time.time() + 2)
    assert first_id(time.time() - 1) < before


@given(TIMES, TIMES)
def test_first_ids_sort_as_their_times_do(one: float, other: float) -> None:
    if one > other:
        one, other = other, one
    assert first_id(one) <= first_id(other)


def test_a_clock_that_is_put_back_takes_the_ids_with_it() -> None:
    """Else those of a process that was ahead once would be ahead, and so kept, for as long."""
    now = [2_000_000_000.0]
    clock = _Clock(lambda: now[0])
    ticks = [clock.tick(), clock.tick()]
    now[0] -= 30
    ticks.append(clock.tick())
    assert ticks == sorted(set(ticks))
    now[0] -= 86400
    assert clock.tick() == int(now[0] * 65536)
