"""What was measured: one value per round under each name, and what follows from them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """The middle of some rounds, and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, rounds: Iterable[float]) -> Spread:
        values = sorted(rounds)
        return cls(statistics.median(values), values[0], values[-1])


class Figures:
    """Values by name, such as ``direct.skipper.16.per_s``; the last part tells the unit."""

    def __init__(self, rounds: dict[str, list[float]] | None = None) -> None:
        self.rounds = rounds or {}

    def add(self, name: str, value: float) -> None:
        self.rounds.setdefault(name, []).append(value)

    def spread(self, name: str) -> Spread | None:
        """The spread of one figure; None where it was not measured."""
        found = self.rounds.get(name)
        return Spread.of(found) if found else None

    def ratio(self, above: str, below: str) -> Spread | None:
        """The spread of the ratio of two figures, round by round: both ran beside each other."""
        pairs = list(zip(self.rounds.get(above, ()), self.rounds.get(below, ()), strict=False))
        return Spread.of(a / b for a, b in pairs) if pairs and all(b for _, b in pairs) else None

    def best(self, prefix: str, suffix: str) -> str | None:
        """The name with the highest median among those that begin and end so."""
        names = [n for n in self.rounds if n.startswith(prefix) and n.endswith(suffix)]
        return max(names, key=lambda n: statistics.median(self.rounds[n]), default=None)

    def described(self) -> dict[str, Any]:
        """Every figure with its median and its rounds, for a file."""
        return {
            name: {"median": statistics.median(values), "rounds": values}
            for name, values in self.rounds.items()
        }
