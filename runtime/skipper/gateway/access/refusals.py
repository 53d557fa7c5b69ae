"""What the access policy refused: counted for good, and told in the log at most once a minute.

Of who was refused only as much is kept as one line shows, whatever is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

log = logging.getLogger(__name__)

INTERVAL_S = 60.0
"""How long refusals are gathered between two lines about one reason."""
MAX_SOURCES = 10
"""Addresses that a line names; of a flood from more, those are counted that came first."""


class Reason(StrEnum):
    """Why a request was refused; the label of ``skipper_refused_total``."""

    KEY = "key"
    """It needs a key, and has none or a wrong one."""
    HOST = "host"
    """It names no host, or one that is not served."""
    ORIGIN = "origin"
    """It comes from a page of another origin."""
    USER = "user"
    """It comes from another account of this machine."""


_WORDS = {
    Reason.KEY: "without a right key",
    Reason.HOST: "under a Host that is not served",
    Reason.ORIGIN: "from pages of other origins",
    Reason.USER: "from other accounts of this machine",
}


Later = Callable[[float, Callable[[], None]], object]
"""Has something done after so many seconds."""


def _later(seconds: float, do: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, do)


class Refusals:
    """Counts what is refused, and logs it: the first at once, the others by the minute.

    ``process`` is the name of the one that counts, where there are several.
    """

    def __init__(self, process: str = "", later: Later = _later) -> None:
        self._process, self._later = process, later
        self._totals = dict.fromkeys(Reason, 0)
        self._gathered: dict[Reason, Gathered] = {}

    def record(self, reason: Reason, source: str) -> None:
        """Count one. ``source`` is who sent it: an address, an account; never a key."""
        self._totals[reason] += 1
        gathered = self._gathered.get(reason)
        if gathered is not None:
            gathered.add(source)
            return
        log.warning("refused a request %s, from %s", _WORDS[reason], source, extra=_facts(reason))
        self._gather(reason)

    def totals(self) -> dict[Reason, int]:
        """How many have been refused, by reason."""
        return dict(self._totals)

    def samples(self) -> list[tuple[dict[str, str], float]]:
        """Those as a metric has them: its labels, and the count."""
        process = {"gateway": self._process} if self._process else {}
        return [(process | {"reason": str(each)}, count) for each, count in self._totals.items()]

    def _gather(self, reason: Reason) -> None:
        self._gathered[reason] = Gathered()
        self._later(INTERVAL_S, lambda: self._tell(reason))

    def _tell(self, reason: Reason) -> None:
        """Log what was gathered; once nothing was, the next refusal is logged at once again."""
        gathered = self._gathered.pop(reason)
        if not gathered.count:
            return
        log.warning(
            "refused %d more requests %s within %g s, from %s",
            gathered.count,
            _WORDS[reason],
            INTERVAL_S,
            gathered,
            extra=_facts(reason),
        )
        self._gather(reason)


class Gathered:
    """Refusals for one reason since the last line about it."""

    def __init__(self) -> None:
        self.count = 0
        self._sources: Counter[str] = Counter()

    def add(self, source: str) -> None:
        self.count += 1
        if source in self._sources or len(self._sources) < MAX_SOURCES:
            self._sources[source] += 1

    def __str__(self) -> str:
        named = [f"{source} ({count})" for source, count in self._sources.most_common()]
        others = self.count - self._sources.total()
        return ", ".join([*named, f"others ({others})"] if others else named)


def _facts(reason: Reason) -> dict[str, str]:
    return {"event": "refused", "reason": reason}
