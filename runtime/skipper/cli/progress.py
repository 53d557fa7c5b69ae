"""A running task as it is shown: a bar at a terminal, lines elsewhere, objects for programs."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from skipper.cli.output import info, neutral, show_json
from skipper.client import TaskEvent
from skipper.settings.environment import wants_animation

_EVERY_S = 5.0
"""How often the progress is printed as a plain line."""
_NO_FIGURES = ("at", "attempt", "dropped", "done", "total")


class PlainProgress:
    """Progress as plain lines, as a context."""

    def __init__(self) -> None:
        self._function = ""
        self._printed_at = 0.0
        self._counts = ""
        self._figures: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def begin(self, function: str) -> None:
        """Name what runs."""
        self._function = neutral(function)

    def on_event(self, event: TaskEvent) -> None:
        """Show what happened."""
        match event.type:
            case "log" | "line":
                self.log(_log_text(event.data))
            case "state":
                self.state(_state_text(event.data))
            case "progress":
                self._counts = _counts(event.data)
                self._keep(_figures_of(event.data))
                self.progress(event.data)
            case "metric":
                self._keep({str(event.data.get("name")): event.data.get("value")})
                self.figures()

    def _keep(self, figures: dict[str, Any]) -> None:
        """Keep the newest value of each figure."""
        self._figures |= figures

    @property
    def _figures_text(self) -> str:
        """What the function reports beside its progress: ``loss 0.12  rmse 3.1``."""
        return neutral("  ".join(f"{name} {_number(it)}" for name, it in self._figures.items()))

    def log(self, text: str) -> None:
        info(text)

    def state(self, text: str) -> None:
        info(f"{self._function} {text}")

    def progress(self, data: dict[str, Any]) -> None:
        if data.get("done") == data.get("total"):
            self._printed_at = 0.0  # the last is always printed
        self.figures()

    def figures(self) -> None:
        """Print how it stands, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._printed_at >= _EVERY_S:
            self._printed_at = now
            info(" ".join(filter(None, (self._function, self._counts, self._figures_text))))


class ProgressBar(PlainProgress):
    """Progress as a bar that stays in its place; logs scroll by above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        super().__init__()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._bar = self._progress.add_task("", total=None, figures="")

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

    def begin(self, function: str) -> None:
        super().begin(function)
        self._progress.update(self._bar, description=self._function)

    def state(self, text: str) -> None:
        self._progress.update(self._bar, description=f"{self._function} {text}")

    def progress(self, data: dict[str, Any]) -> None:
        self._progress.update(self._bar, completed=data.get("done") or 0, total=data.get("total"))
        self.figures()

    def figures(self) -> None:
        self._progress.update(self._bar, figures=self._figures_text)


class JsonProgress(PlainProgress):
    """Every event as a JSON object of its own, on standard output."""

    def on_event(self, event: TaskEvent) -> None:
        show_json({"event": event.type, "id": event.id, **event.data}, lines=True)


def display() -> PlainProgress:
    """What suits standard error."""
    return ProgressBar() if wants_animation(sys.stderr.isatty()) else PlainProgress()


def _log_text(data: dict[str, Any]) -> str:
    """A line of log as it is shown; before it, how many lines before it are not kept."""
    text = neutral(str(data.get("text", ""))).rstrip("\n")
    dropped = data.get("dropped")
    return f"… {dropped} lines are not kept …\n{text}" if dropped else text


def _state_text(data: dict[str, Any]) -> str:
    """``retrying after attempt 1: ValueError: no table``."""
    text = neutral(str(data.get("state", "")))
    if outcome := data.get("outcome"):
        reason = (data.get("error") or {}).get("detail") or outcome
        text += f" after attempt {data.get('attempt')}: {neutral(str(reason))}"
    return text


def _counts(data: dict[str, Any]) -> str:
    return f"{_number(data.get('done'))}/{_number(data.get('total'))}"


def _figures_of(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in _NO_FIGURES}


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "?" if value is None else str(value)
