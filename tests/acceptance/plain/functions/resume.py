"""Trainings that go on from where they had come to."""

import os
import signal
from pathlib import Path

import skipper


class Effects:
    """What was really done, by any attempt: a line for each step."""

    def __init__(self, folder: str) -> None:
        self._file = Path(folder) / "steps"

    def add(self, attempt: int, step: int) -> None:
        with self._file.open("a") as lines:
            lines.write(f"{attempt} {step}\n")


def _step_of(restored: Path | None) -> int:
    return 0 if restored is None else int(restored.read_text())


@skipper.training(retries=20, backoff="10ms")
def counts(
    folder: str, steps: int = 200, every: int = 20, die_after: int = 0, *, run: skipper.Run
) -> dict[str, int]:
    """Count; with ``die_after`` its process is killed so many steps after each checkpoint."""
    effects, state = Effects(folder), Path(folder) / f"state-{os.getpid()}"
    first = step = _step_of(run.restored)
    while step < steps:
        step += 1
        effects.add(run.attempt, step)
        run.progress(step, steps)
        if step % every == 0:
            state.write_text(str(step))
            run.checkpoint(state)
        if die_after and step > every and step % every == die_after and step - first > die_after:
            os.kill(os.getpid(), signal.SIGKILL)
    return {"from": first, "to": step}


@skipper.training
def waits(folder: str, steps: int = 3, *, run: skipper.Run) -> dict[str, int]:
    """Make a checkpoint of each step and then wait for the file ``go``."""
    first = _step_of(run.restored)
    state = Path(folder) / "state"
    for step in range(first + 1, steps + 1):
        state.write_text(str(step))
        run.checkpoint(state)
    while not (Path(folder) / "go").exists():
        if run.cancelled:
            raise skipper.Cancelled
    return {"from": first}


@skipper.training
def fails_once(folder: str, *, run: skipper.Run) -> int:
    """Fail at the first try of all, whatever task that is of."""
    state, tried = Path(folder) / "state", Path(folder) / "tried"
    if run.restored is None and not tried.exists():
        tried.touch()
        state.write_text("41")
        run.progress(41, 42)
        run.checkpoint(state)
        raise RuntimeError("of no use")
    return _step_of(run.restored) + 1
