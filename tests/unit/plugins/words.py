"""A sink that keeps what a run says, and can cancel it."""

from typing import Any

from skipper.run import Run


class Words:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.cancel_after: int | None = None

    @property
    def run(self) -> Run:
        return Run(self)

    @property
    def progress(self) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events if event["type"] == "progress"]

    def emit(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def is_cancelled(self) -> bool:
        return self.cancel_after is not None and len(self.events) >= self.cancel_after
