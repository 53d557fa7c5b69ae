"""Who waits for a task is woken by what concerns it, and by nothing else."""

import asyncio

from skipper.tasks.watchers import Watchers


async def test_who_watches_a_task_is_woken_by_its_changes_alone() -> None:
    watchers = Watchers()
    with watchers.watching("a") as mine, watchers.watching("a") as too, watchers.watching("b") as b:
        watchers.changed(["a", "nobody watches"])
        assert (mine.is_set(), too.is_set(), b.is_set()) == (True, True, False)


async def test_who_leaves_is_forgotten_and_the_others_are_not() -> None:
    watchers = Watchers()
    with watchers.watching("a") as mine:
        with watchers.watching("a"):
            pass
        watchers.changed(["a"])
        assert mine.is_set()
    assert not watchers._watching


async def test_who_follows_a_task_is_woken_by_its_events_too() -> None:
    watchers = Watchers()
    with watchers.watching("a") as watching, watchers.following("a") as following:
        watchers.emitted(["a"])
        assert (watching.is_set(), following.is_set()) == (False, True)
        following.clear()
        watchers.changed(["a"])
        assert (watching.is_set(), following.is_set()) == (True, True)


async def test_at_the_end_everybody_is_let_go() -> None:
    watchers = Watchers()
    with watchers.watching("a") as a, watchers.watching("b") as b:
        watchers.close()
        await asyncio.wait_for(asyncio.gather(a.wait(), b.wait()), 5)
    assert watchers.is_closing
