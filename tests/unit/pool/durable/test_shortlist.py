"""Whose turn it is, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.ledger.records import WaitingTask
from skipper.pool.durable.shortlist import ENDED, ShortList, in_turn


def waiting(*named: str, priority: int = 0) -> list[WaitingTask]:
    """``a1`` is the first task of function ``a``; earlier ones are older."""
    return [
        WaitingTask(f"{n:03}{name}", name[0], priority, float(n)) for n, name in enumerate(named)
    ]


def names(ids: list[str] | tuple[str, ...]) -> str:
    return " ".join(id_[3:] for id_ in ids)


@pytest.mark.parametrize(
    ("tasks", "turns", "order"),
    [
        (waiting("a1", "a2", "a3"), {}, "a1 a2 a3"),
        (waiting("a1", "a2", "a3", "b1", "b2"), {}, "a1 b1 a2 b2 a3"),
        (waiting("a1", "a2", "b1"), {"a": 4}, "b1 a1 a2"),
        (waiting("a1", "b1", "c1"), {"a": 5, "b": 7, "c": 6}, "a1 c1 b1"),
        ([*waiting("a1", "a2"), *waiting("b1", priority=5)], {"b": 9}, "b1 a1 a2"),
        ([*waiting("a1", priority=-1), *waiting("a2", "b1")], {}, "a2 b1 a1"),
        ([*waiting("a1", "b1", priority=2), *waiting("a2", "b2")], {"a": 1}, "b1 a1 b2 a2"),
        ([], {"a": 1}, ""),
    ],
)
def test_the_most_urgent_start_first_and_functions_take_turns(
    tasks: list[WaitingTask], turns: dict[str, int], order: str
) -> None:
    assert names(in_turn(tasks, turns)) == order
    assert names(in_turn(tasks[::-1], turns)) == order


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 2)), max_size=30))
def test_nothing_is_left_out_and_a_function_keeps_its_own_order(
    said: list[tuple[str, int]],
) -> None:
    tasks = [WaitingTask(f"{n:03}", name, priority, 0.0) for n, (name, priority) in enumerate(said)]
    order = in_turn(tasks, {})
    assert sorted(order) == [task.id for task in tasks]
    priorities = [said[int(id_)][1] for id_ in order]
    assert priorities == sorted(priorities, reverse=True)
    for mine in set(said):
        own = [id_ for id_ in order if said[int(id_)] == mine]
        assert own == sorted(own)


def test_two_functions_alternate_however_many_one_has() -> None:
    listed = ShortList(4)
    left = waiting(*(f"a{n}" for n in range(6)), "b1", "b2", "b3")
    started = []
    while left:
        listed.arrange(left, listed.ids)
        (id_,) = listed.take(1)
        listed.started(id_[3])
        started.append(id_)
        left = [task for task in left if task.id != id_]
    assert names(tuple(started)) == "a0 b1 a1 b2 a2 b3 a3 a4 a5"


def test_what_the_broker_sends_stands_at_the_end_and_once() -> None:
    listed = ShortList(4)
    listed.add(["x", "y"])
    listed.add(["y", "z"])
    assert (listed.take(2), len(listed), listed.take(5), len(listed)) == (("x", "y"), 1, ("z",), 0)


def test_what_has_ended_is_not_listed_again_as_long_as_it_is_remembered() -> None:
    found = ShortList(9)
    found.ended("a")
    found.add(["a", "b"])
    assert found.take(9) == ("b",)
    for number in range(ENDED):
        found.ended(f"later-{number}")
    found.add(["a", "later-0"])
    assert found.take(9) == ("a",)


def test_the_ledgers_word_drops_what_does_not_wait_and_keeps_what_came_since() -> None:
    listed = ShortList(4)
    listed.add(["gone", "000a1"])
    known = listed.ids
    listed.add(["new"])
    listed.arrange(waiting("a1", "a2"), known)
    assert listed.take(9) == ("000a1", "001a2", "new")


def test_no_more_is_listed_than_there_is_room_for() -> None:
    listed = ShortList(2)
    assert listed.has_room
    listed.arrange(waiting("a1", "a2", "a3"), listed.ids)
    assert (len(listed), listed.has_room) == (2, False)


def test_only_what_is_in_order_is_taken_while_more_waits_than_is_listed() -> None:
    listed = ShortList(2)
    tasks = [*waiting("a1", "a2", "a3"), *waiting("b1", priority=-5)]
    listed.arrange(tasks, listed.ids)
    listed.add(["000b1"])  # from the broker, though it is the least urgent
    assert (names(listed.take(9)), listed.is_spent) == ("a1 a2", True)
    listed.arrange([task for task in tasks if task.id not in ("000a1", "001a2")], listed.ids)
    assert names(listed.take(9)) == "a3 b1"


def test_a_list_of_all_that_waits_settles_what_starts() -> None:
    listed = ShortList(3)
    listed.add(["x", "y"])
    assert (listed.settles(1), listed.settles(2), listed.is_spent) == (False, True, False)
    listed.arrange(waiting("a1", "a2", "a3"), listed.ids)
    assert not listed.settles(3), "there may be more"
    assert names(listed.take(3)) == "a1 a2 a3"
