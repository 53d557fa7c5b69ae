"""One place in the tree, and what is logged of its failures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from skipper.errors import StartError
from skipper.launcher import process
from skipper.launcher.keeper import ChildState, Keeper
from skipper.launcher.output import LogOutput
from skipper.launcher.plan import CONTROL, ChildPlan
from skipper.launcher.process import Child, LaunchContext
from skipper.launcher.restarts import BUDGET, History
from skipper.settings.model import Settings


def keeper(tmp_path: Path, *command: str) -> Keeper:
    """A place whose next failed start is its last."""
    (tmp_path / ".skipper" / "logs").mkdir(parents=True)
    output = LogOutput(Settings(project_dir=tmp_path), ("cpu",), quiet=True)
    context = LaunchContext(
        settings_file=tmp_path / "settings.json",
        directory=tmp_path,
        environment={},
        bare_environment={},
        lock_fd=0,
    )

    def start(plan: ChildPlan) -> Child:
        return process.start(plan, context, output.follow)

    plan = ChildPlan(name="cpu", command=command, stage=0, level=1, failure_code=9)
    history = History(failed_starts=BUDGET - 1)
    return Keeper(plan, start=start, ended=lambda _: None, log=output.log, history=history)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise ValueError('a plain traceback')", "exit code 1: ValueError: a plain traceback"),
        ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("", "exit code 0"),
        ("import sys; sys.exit('spoken')", "exit code 1: spoken"),
    ],
)
async def test_the_verdict_tells_how_the_last_start_ended(
    tmp_path: Path, code: str, expected: str
) -> None:
    kept = keeper(tmp_path, sys.executable, "-I", "-S", "-c", code)
    with pytest.raises(StartError) as seen:
        await kept.keep()
    assert str(seen.value) == f"cpu did not get ready in 5 starts; the last: {expected}"
    assert seen.value.code == 9
    assert kept.state is ChildState.STOPPED
    assert kept.gone.is_set()


async def test_a_missing_program_is_a_failed_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="/nowhere/valkey-server: No such file or directory"):
        await keeper(tmp_path, "/nowhere/valkey-server").keep()


async def test_what_a_role_says_of_its_failure_is_the_verdict(tmp_path: Path) -> None:
    event = '{"event": "failed", "reason": "pools.gpu: no GPU was found."}'
    code = (
        "import socket, sys; "
        f"socket.socket(fileno=int(sys.argv[1])).sendall(b'{event}\\n'); sys.exit(3)"
    )
    kept = keeper(tmp_path, sys.executable, "-I", "-S", "-c", code, CONTROL)
    with pytest.raises(StartError, match=r"the last: pools\.gpu: no GPU was found$") as seen:
        await kept.keep()
    assert seen.value.code == 3
