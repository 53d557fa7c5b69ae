"""What a campaign has planned and what came of it, in two files that outlive an interruption."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.plan import Round
from tests.chaos.report import Figures, Outcome, total


@dataclass(frozen=True, kw_only=True)
class Row:
    """One round that has ended."""

    day: str
    version: str
    """Of the code that was tried, as git calls it."""
    round: Round
    figures: Figures


class Record:
    """``NAME.plan.jsonl`` and ``NAME.jsonl`` in ``folder``, a round a line."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self._plan, self._results = folder / f"{name}.plan.jsonl", folder / f"{name}.jsonl"

    def keep_plan(self, rounds: Iterable[Round]) -> None:
        """Write ``rounds`` down as the plan, unless there is one already: that one goes on."""
        if not self._plan.exists():
            self._plan.write_text("".join(json.dumps(asdict(each)) + "\n" for each in rounds))

    def plan(self) -> list[Round]:
        return [_round(json.loads(line)) for line in self._plan.read_text().splitlines()]

    def add(self, outcome: Outcome) -> None:
        """Write an outcome down."""
        row = Row(
            day=time.strftime("%Y-%m-%d"),
            version=_version(),
            round=outcome.round,
            figures=outcome.figures,
        )
        with self._results.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")

    def rows(self) -> list[Row]:
        """What has come of the rounds so far."""
        lines = self._results.read_text().splitlines() if self._results.exists() else []
        return [_row(json.loads(line)) for line in lines]

    def has(self, round_: Round) -> bool:
        """Whether a round has ended, well or not."""
        known = {(row.round.backend, row.round.seed) for row in self.rows()}
        return (round_.backend, round_.seed) in known

    def total(self, backend: str) -> Figures:
        """The figures of all rounds on one back-end."""
        return total([row.figures for row in self.rows() if row.round.backend == backend])


def _row(values: Mapping[str, Any]) -> Row:
    nested = {"round": _round(values["round"]), "figures": Figures(**values["figures"])}
    return Row(**{**values, **nested})


def _version() -> str:
    """What is checked out here; ``unknown`` outside of a repository."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _round(values: Mapping[str, Any]) -> Round:
    return Round(**{**values, "roles": tuple(values["roles"]), "points": tuple(values["points"])})
