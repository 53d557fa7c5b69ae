"""Who may hold how much, who waits, and who has to make room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from skipper.gateway.budget import LOOK_S, PROGRESS, Budget, MemoryClaim, Use
from skipper.gateway.problems import Problem
from tests.unit.gateway.played import settle

ROOM = 1000
LARGEST = 5000
STALL_S, PATIENCE_S = 5.0, 10.0


class Account:
    """A budget whose clock a test has in hand, and those who were cut."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cut: list[str] = []
        self.budget = Budget(
            ROOM, LARGEST, patience_s=PATIENCE_S, stall_s=STALL_S, clock=lambda: self.now
        )

    def _on_cut(self, name: str) -> Callable[[], None]:
        return lambda: self.cut.append(name)

    def answer(self, size: int, name: str = "") -> MemoryClaim:
        return self.budget.answer(size, self._on_cut(name))

    def body(self, size: int | None, name: str = "") -> asyncio.Task[MemoryClaim]:
        return asyncio.create_task(self.budget.body(size, self._on_cut(name)))

    async def bodies(self, *sizes: int | None) -> list[asyncio.Task[MemoryClaim]]:
        started = [self.body(size, str(n)) for n, size in enumerate(sizes)]
        await settle()
        return started

    async def later(self, seconds: float) -> None:
        self.now += seconds
        self.budget.look()
        await settle()

    @property
    def held(self) -> tuple[int, int]:
        return self.budget.taken(Use.BODY), self.budget.taken(Use.ANSWER)


@pytest.fixture
def account() -> Account:
    return Account()


def done(*tasks: asyncio.Task[Any]) -> list[bool]:
    return [task.done() for task in tasks]


async def test_what_is_claimed_is_counted_until_it_is_given_back(account: Account) -> None:
    (body,) = await account.bodies(300)
    with account.answer(200):
        assert account.held == (300, 200)
        (await body).is_whole(100)
        assert account.held == (100, 200)
    (await body).release()
    (await body).release()
    (await body).is_whole(0)
    assert account.held == (0, 0)


# --- bodies ------------------------------------------------------------------------------------


async def test_bodies_leave_a_part_of_the_room_to_answers(account: Account) -> None:
    first, second = await account.bodies(700, 100)
    assert done(first, second) == [True, False]
    account.answer(300)
    with pytest.raises(Problem):
        account.answer(1)


async def test_what_has_no_room_waits_in_order(account: Account) -> None:
    first, *waiting = await account.bodies(700, 400, 300, 200)
    assert account.budget.waiting == 3
    (await first).release()
    await settle()
    assert done(*waiting) == [True, True, False]
    (await waiting[0]).release()
    await waiting[2]
    assert account.held == (500, 0)


async def test_a_smaller_body_goes_before_one_that_waits(account: Account) -> None:
    _, large, small = await account.bodies(500, 400, 100)
    assert done(large, small) == [False, True]


async def test_nobody_overtakes_one_that_has_waited_for_long(account: Account) -> None:
    first, large = await account.bodies(500, 700)
    account.now += PATIENCE_S / 2
    (await first).gets_on(PROGRESS)
    (small,) = await account.bodies(100)
    assert done(large, small) == [False, False]
    (await first).release()
    await settle()
    assert done(large, small) == [True, False]


async def test_what_waits_in_vain_is_refused_with_the_setting_and_comes_back(
    account: Account,
) -> None:
    (await account.bodies(700))[0].result()
    (waiting,) = await account.bodies(600)
    for _ in range(2 * int(PATIENCE_S)):
        next(iter(account.budget._claims)).moved_at = account.now  # it gets on
        await account.later(0.5)
    with pytest.raises(Problem, match=r"take 0.0 of 0.\d+ MiB \(gateway.memory_mb\)") as caught:
        await waiting
    assert caught.value.kind.status == 503
    assert account.budget.waiting == 0
    assert account.cut == []


async def test_a_body_larger_than_the_room_is_taken_alone(account: Account) -> None:
    first, huge = await account.bodies(10, 5 * ROOM)
    assert done(huge) == [False]
    (await first).release()
    await huge
    with pytest.raises(Problem):
        account.answer(1)


@pytest.mark.parametrize(("size", "claimed"), [(None, 9000), (700, 700), (99_000, 9000)])
async def test_a_body_that_may_have_more_than_others_claims_what_it_may_take(
    account: Account, size: int | None, claimed: int
) -> None:
    claim = await account.budget.body(size, lambda: None, 9000)
    assert account.held == (claimed, 0)
    claim.release()


async def test_a_body_of_unknown_size_counts_as_the_largest_until_it_is_whole(
    account: Account,
) -> None:
    account.budget.room = 10 * LARGEST
    (unknown,) = await account.bodies(None)
    assert account.held == (LARGEST, 0)
    (await unknown).is_whole(70)
    assert account.held == (70, 0)


async def test_a_body_that_is_whole_is_not_cut_however_long_its_call_lasts(
    account: Account,
) -> None:
    (body,) = await account.bodies(700)
    (await body).is_whole(700)
    account.now += 100 * STALL_S
    with pytest.raises(Problem):
        account.answer(700)
    assert account.cut == []


async def test_a_caller_that_leaves_while_it_waits_holds_up_nobody(account: Account) -> None:
    first, gone, after = await account.bodies(700, 600, 500)
    gone.cancel()
    (await first).release()
    await settle()
    assert done(after) == [True]
    assert account.held == (500, 0)
    assert account.budget.waiting == 0


async def test_a_caller_that_leaves_as_it_is_let_in_takes_nothing(account: Account) -> None:
    first, gone = await account.bodies(700, 600)
    (await first).release()
    gone.cancel()
    await settle()
    assert gone.cancelled()
    assert account.held == (0, 0)


async def test_what_waits_is_looked_after_without_being_asked() -> None:
    budget = Budget(ROOM, LARGEST, patience_s=0.0)
    budget.answer(ROOM, lambda: None)
    async with asyncio.timeout(40 * LOOK_S):
        with pytest.raises(Problem, match="no room for its body"):
            await budget.body(1, lambda: None)


async def test_bodies_of_which_nothing_comes_make_room_for_those_that_wait(
    account: Account,
) -> None:
    *_, waiting = await account.bodies(300, 300, 400)
    await account.later(STALL_S - 1)
    assert done(waiting) == [False]
    await account.later(1)
    assert done(waiting) == [True]
    assert account.cut == ["0"]


# --- answers -----------------------------------------------------------------------------------


async def test_an_answer_without_room_is_refused_with_the_setting(account: Account) -> None:
    account.answer(900, "unread")
    with pytest.raises(Problem, match=r"until it is read: .*\(gateway.memory_mb\)"):
        account.answer(101)
    assert account.cut == []
    assert account.held == (0, 900)


async def test_who_has_not_read_for_longest_makes_room_and_no_more_than_needed(
    account: Account,
) -> None:
    for name in ("first", "second", "third"):
        account.answer(300, name)
        account.now += 1
    account.now += STALL_S
    account.answer(350)
    assert account.cut == ["first"]
    assert account.held == (0, 950)


async def test_who_reads_is_not_cut_and_who_takes_a_byte_now_and_then_is(
    account: Account,
) -> None:
    reading, trickling = account.answer(500, "reading"), account.answer(500, "trickling")
    for second in range(1, 7):
        account.now += 1
        reading.gets_on(second * PROGRESS)
        trickling.gets_on(second)
    account.answer(400)
    assert account.cut == ["trickling"]


async def test_nobody_is_cut_in_vain(account: Account) -> None:
    account.answer(400, "unread")
    reading = account.answer(600)
    account.now += STALL_S
    reading.gets_on(PROGRESS)
    with pytest.raises(Problem):
        account.answer(500)
    assert account.cut == []


async def test_the_room_of_who_is_cut_goes_to_whom_it_was_cut_for(account: Account) -> None:
    unread = account.answer(1000, "unread")
    (body,) = await account.bodies(600)
    account.now += STALL_S
    account.answer(900)
    await settle()
    assert done(body) == [False]
    unread.release()
    assert account.held == (0, 900)


async def test_an_answer_larger_than_the_room_is_held_alone(account: Account) -> None:
    with account.answer(3 * ROOM), pytest.raises(Problem):
        account.answer(1)
    account.answer(1)
