"""What a round leaves for its judges, and what they say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.chaos.history import Effects
from tests.chaos.look import Look
from tests.chaos.plan import Order


class Violation(NamedTuple):
    """A broken promise: ``kind`` is a column of the report."""

    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a round left. ``later`` is what :func:`~tests.chaos.look.states` said afterwards."""

    orders: Sequence[Order]
    entries: Sequence[Mapping[str, Any]]
    effects: Effects
    look: Look
    later: Sequence[Mapping[str, tuple[Any, ...]]]

    @property
    def may_overlap(self) -> bool:
        """A stopped host cannot end its instances: what it lost runs beside its next attempt."""
        return any(entry.get("how") == "stop" for entry in self.entries)

    def accepted(self, *ways: str) -> Iterator[Mapping[str, Any]]:
        """The driver's entries of what was accepted, by these ways in."""
        return (entry for entry in self.entries if entry["what"] == "ok" and entry["op"] in ways)
