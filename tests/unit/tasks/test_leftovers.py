"""What was left in the spool goes after a while, and never what is new."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from skipper.tasks.leftovers import keep_swept, swept
from skipper.values.spool import Spool

LIMIT_S = 10.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - what a thread does
            await asyncio.sleep(0.001)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def left(spool: Spool) -> str:
    """A file that was written a day ago."""
    name = spool.put(b"left")
    os.utime(spool.path(name), (0, 0))
    return name


async def test_what_is_old_goes_and_what_is_new_stays(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = left(spool), spool.put(b"new")
    sweeping = asyncio.create_task(keep_swept(spool, every_s=0.001, age_s=60))
    await until(lambda: not spool.path(old).exists())
    await until(lambda: "1 values that nobody has taken" in caplog.text)
    later = left(spool)
    await until(lambda: not spool.path(later).exists())
    sweeping.cancel()
    assert spool.path(new).exists()


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
    sweeping = asyncio.create_task(keep_swept(spool, every_s=0.001, age_s=60))
    await until(lambda: not spool.path(old).exists())
    sweeping.cancel()
    assert "the spool could not be looked through: Permission denied" in caplog.text


async def test_it_ends_with_its_block(spool: Spool) -> None:
    before = asyncio.all_tasks()
    async with swept(spool):
        assert len(asyncio.all_tasks()) == len(before) + 1
    assert asyncio.all_tasks() == before
