"""A running task on standard error: a bar at a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from skipper.cli.output import neutral, say
from skipper.client import TaskEvent
from skipper.settings import wants_animation

_EVERY_S = 5.0
"""How often a plain line tells the progress."""


class Lines:
    """Progress as plain lines, as a context."""

    def __init__(self, function: str) -> None:
        self._function = function
        self._said_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def tell(self, event: TaskEvent) -> None:
        """Show what happened."""
        if event.type == "log":
            self.log(neutral(str(event.data.get("text", ""))).rstrip("\n"))
        elif event.type == "state":
            self.state(str(event.data.get("state", "")))
        elif event.type == "progress":
            self.progress(event.data)

    def log(self, text: str) -> None:
        say(text)

    def state(self, state: str) -> None:
        say(f"{self._function} {neutral(state)}")

    def progress(self, data: dict[str, Any]) -> None:
        now = time.monotonic()
        is_last = data.get("done") == data.get("total")
        if is_last or now - self._said_at >= _EVERY_S:
            self._said_at = now
            counts = f"{_number(data.get('done'))}/{_number(data.get('total'))}"
            say(f"{self._function} {counts} {_figures(data)}".rstrip())


class Bar(Lines):
    """Progress as a bar that stays in its place; logs scroll by above it."""

    def __init__(self, function: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        super().__init__(function)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._bar = self._progress.add_task(function, total=None, figures="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def log(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def state(self, state: str) -> None:
        self._progress.update(self._bar, description=f"{self._function} {neutral(state)}")

    def progress(self, data: dict[str, Any]) -> None:
        self._progress.update(
            self._bar,
            completed=data.get("done") or 0,
            total=data.get("total"),
            figures=_figures(data),
        )


def display(function: str) -> Lines:
    """What suits standard error."""
    is_lively = wants_animation(sys.stderr.isatty())
    return Bar(function) if is_lively else Lines(function)


def _figures(data: dict[str, Any]) -> str:
    """Whatever a function reports beside its progress: ``loss 0.12  rmse 3.1``."""
    others = {name: value for name, value in data.items() if name not in ("at", "done", "total")}
    return neutral("  ".join(f"{name} {_number(value)}" for name, value in others.items()))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "?" if value is None else str(value)
