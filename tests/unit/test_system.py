import asyncio
import os
import subprocess
import sys

import pytest

from skipper import system

HANGS = "import time; time.sleep(60)"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (70, "exit code 70"),
        (-9, "killed by SIGKILL"),
        (-99, "killed by signal 99"),
    ],
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert system.exit_words(code) == words


@pytest.mark.skipif(not system.IS_LINUX, reason="there is no /proc")
def test_a_process_whose_parent_to_be_has_ended_unnoticed_ends_too() -> None:
    """It would wait for ever to be handed to a process that nobody has reaped."""
    parent = subprocess.Popen(["true"])
    os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
    program = f"from skipper.system import die_with_parent; die_with_parent({parent.pid})"
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=30)
    parent.wait()
    assert done.returncode == 0


async def test_children_are_found_and_no_one_elses() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HANGS)
    assert process.pid in system.children()
    assert os.getppid() not in system.children()
    process.kill()
    await process.wait()
    assert process.pid not in system.children()


@pytest.mark.parametrize("has_pidfd", [True, False])
async def test_the_end_of_a_child_is_noticed_on_every_system(
    monkeypatch: pytest.MonkeyPatch, has_pidfd: bool
) -> None:
    if not has_pidfd:  # as on macOS
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    process = subprocess.Popen(["sh", "-c", "exit 7"])  # noqa: ASYNC220 - it is at once
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    system.when_ended(process.pid, ended.set_result, process.wait)
    code = await asyncio.wait_for(ended, 10)
    assert code == (None if has_pidfd else 7)
    assert process.wait() == 7


async def test_the_end_of_a_child_that_somebody_has_reaped_is_noticed_too() -> None:
    process = subprocess.Popen(["true"])  # noqa: ASYNC220 - it is at once
    process.wait()
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    system.when_ended(process.pid, ended.set_result, process.wait)
    await asyncio.wait_for(ended, 10)
