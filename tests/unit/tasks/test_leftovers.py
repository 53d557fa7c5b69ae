"""What was left in the spool goes after a while, and never what is new."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from skipper.tasks.leftovers import keep_swept, keep_tidy, swept
from skipper.values.spool import Spool

LIMIT_S = 10.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - what a thread does
            await asyncio.sleep(0.001)


def nothing_long() -> float:
    return 60.0


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def left(spool: Spool) -> str:
    """A file that was written a day ago."""
    name = spool.put(b"left")
    os.utime(spool.folder / name, (0, 0))
    return name


async def test_what_is_old_goes_and_what_is_new_stays(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = left(spool), spool.put(b"new")
    sweeping = asyncio.create_task(keep_swept(spool, nothing_long, every_s=0.001, age_s=60))
    await until(lambda: not (spool.folder / old).exists())
    await until(lambda: "1 values that nobody has taken" in caplog.text)
    later = left(spool)
    await until(lambda: not (spool.folder / later).exists())
    sweeping.cancel()
    assert (spool.folder / new).exists()


class Unreadable(Spool):
    """A spool that cannot be looked through the first time."""

    looks = 0

    def sweep(self, age_s: float) -> int:
        self.looks += 1
        if self.looks == 1:
            raise PermissionError(13, "Permission denied")
        return super().sweep(age_s)


async def test_where_it_cannot_be_looked_through_the_log_is_told_and_it_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Unreadable(tmp_path / "spool")
    old = left(spool)
    sweeping = asyncio.create_task(keep_swept(spool, nothing_long, every_s=0.001, age_s=60))
    await until(lambda: not (spool.folder / old).exists())
    sweeping.cancel()
    assert "the spool could not be looked through: Permission denied" in caplog.text


async def test_it_ends_with_its_block(spool: Spool) -> None:
    before = asyncio.all_tasks()
    async with swept(spool, nothing_long):
        assert len(asyncio.all_tasks()) == len(before) + 2
    assert asyncio.all_tasks() == before


async def test_what_the_longest_call_may_still_use_stays(spool: Spool) -> None:
    """A call that runs for days has its input in the spool for as long."""
    old, older = spool.put(b"in use"), left(spool)
    os.utime(spool.folder / old, (time.time() - 3 * 86400,) * 2)
    longest = [2 * 86400.0]
    sweeping = asyncio.create_task(keep_swept(spool, lambda: longest[0], every_s=0.001))
    await until(lambda: not (spool.folder / older).exists())
    longest[0] = 60.0  # its function is not served any more, and the call runs on
    another = left(spool)
    await until(lambda: not (spool.folder / another).exists())
    sweeping.cancel()
    assert (spool.folder / old).exists()


async def test_what_was_kept_to_be_written_again_goes_soon(spool: Spool) -> None:
    kept = spool.folder / f"kept-{1}"
    spool.put(b"")
    kept.write_bytes(b"x")
    os.utime(kept, (0, 0))
    tidying = asyncio.create_task(keep_tidy(spool, every_s=0.001))
    await until(lambda: not kept.exists())
    tidying.cancel()
