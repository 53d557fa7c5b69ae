"""From saving a file to the first answer of the new code."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench import tree
from bench.calls import calling, until
from bench.options import Bench
from bench.processes import free_port, running, start, wait_for_answer
from bench.systems import Place, uvicorn

_LIMIT_S = 60.0
_STEP_S = 0.002
_PAUSE_S = 0.5
"""Between a new answer and the next change: watchers wait until a burst of changes is over."""
_SKIPPER = """import skipper


@skipper.data
def answer() -> int:
    return {number}
"""
_FASTAPI = """from fastapi import FastAPI

app = FastAPI()


@app.post("/predict")
async def answer() -> int:
    return {number}
"""


class Saved(NamedTuple):
    """A served file: what it says, where it lies, where it answers."""

    text: str
    file: Path
    place: Place


def run(bench: Bench) -> None:
    numbers = itertools.count(1)
    with contextlib.ExitStack() as stack:
        systems: dict[str, Saved] = {
            "uvicorn": stack.enter_context(fastapi()),
            "skipper": stack.enter_context(skipper("plainly.py", _SKIPPER)),
            "skipper_tensorflow": stack.enter_context(
                skipper("heavily.py", "import tensorflow\n" + _SKIPPER)
            ),
        }
        for saved in systems.values():
            seconds_to(saved, next(numbers))  # warm: a template may have to import something
        for _ in bench.each_round("reload"):
            for name, saved in systems.items():
                bench.figures.add(f"reload.{name}.s", seconds_to(saved, next(numbers)))


def seconds_to(saved: Saved, number: int) -> float:
    """Save another constant as editors do, by renaming, and call until it is what comes back."""
    time.sleep(_PAUSE_S)
    beside = saved.file.with_suffix(".tmp")
    beside.write_text(saved.text.replace("{number}", str(number)), encoding="utf-8")
    began = time.monotonic()
    beside.replace(saved.file)
    until(lambda: _says(saved.place, number), _LIMIT_S, "the new code answers", _STEP_S)
    return time.monotonic() - began


def _says(place: Place, number: int) -> bool:
    with calling(place.port) as caller:
        try:
            answer = caller.ask("POST", place.path, b"{}")
        except OSError:
            return False
        return answer.status < 300 and answer.json() == number


@contextlib.contextmanager
def fastapi() -> Iterator[Saved]:
    with tree.planted([("saved.py", _FASTAPI.replace("{number}", "0"))]) as project:
        folder, place = project / "functions", Place(free_port(), "/predict")
        server = start([*uvicorn("saved:app", place.port), "--reload"], "reload", folder=folder)
        with running(server):
            wait_for_answer(server, place.port, place.path, b"{}")
            yield Saved(_FASTAPI, folder / "saved.py", place)


@contextlib.contextmanager
def skipper(name: str, text: str) -> Iterator[Saved]:
    with (
        tree.planted([(name, text.replace("{number}", "0"))]) as project,
        tree.up(project, "--reload") as found,
    ):
        place = Place(found.port, tree.path(f"{name.removesuffix('.py')}.answer"))
        yield Saved(text, project / "functions" / name, place)
