"""What functions count and observe for ``/metrics``: series by name and labels, bounded. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple

from skipper.function.figures import figure
from skipper.histogram import Histogram

MOST_SERIES = 200
"""Series of one function: each a name with one set of labels."""
MOST_NAMES = 50
"""Names of one function."""
MOST_LABELS = 8
MAX_NAME = 100
"""Characters of a name, a label's too."""
MAX_LABEL = 100
"""Characters of what a label says."""
MAX_FIGURE = 1e100
"""No sum of what is taken is infinite."""
BUCKETS = tuple(float(f"{digit}e{power}") for power in range(-3, 4) for digit in (1, 2.5, 5))
"""From a millisecond to hours, shares and scores, and how many tokens or rows."""

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_TAKEN = frozenset({"function", "pool", "le"})
"""Labels that every series has, and a histogram's own."""
_ENDINGS = ("_total", "_bucket", "_sum", "_count")
"""How Prometheus names the parts of other families."""


class Series(NamedTuple):
    """One line of a graph."""

    name: str
    labels: tuple[tuple[str, str], ...]
    """In the order of their names."""


class Addition(NamedTuple):
    """What is counted or observed, once it is known to be good."""

    series: Series
    value: float


def counted(name: object, amount: object, labels: Mapping[str, object]) -> Addition:
    """What ``run.count`` was given. Raises ValueError that says why it cannot be shown."""
    value = _figure(amount)
    if value < 0:
        raise ValueError("a count only grows")
    return Addition(Series(_name(name).removesuffix("_total"), _labels(labels)), value)


def observed(name: object, value: object, labels: Mapping[str, object]) -> Addition:
    """What ``run.observe`` was given. Raises ValueError that says why it cannot be shown."""
    if (known := _name(name)).endswith(_ENDINGS):
        raise ValueError(f"a name of what is observed does not end in {', '.join(_ENDINGS)}")
    return Addition(Series(known, _labels(labels)), _figure(value))


@dataclass
class Tallies:
    """What one function has counted and observed."""

    counts: dict[Series, float] = field(default_factory=dict)
    histograms: dict[Series, Histogram] = field(default_factory=dict)
    left_out: int = 0
    """How many additions were not taken."""

    def count(self, added: Addition) -> None:
        """Add to a counter."""
        self.counts[added.series] = self.counts.get(added.series, 0.0) + added.value

    def observe(self, added: Addition) -> None:
        """Add to a histogram."""
        self.histograms.setdefault(added.series, Histogram(BUCKETS)).observe(added.value)

    def add(self, other: Tallies) -> None:
        """Add all that another one has."""
        for series, amount in other.counts.items():
            self.count(Addition(series, amount))
        for series, histogram in other.histograms.items():
            self.histograms.setdefault(series, Histogram(BUCKETS)).add(histogram)
        self.left_out += other.left_out


class Room:
    """Which series of one function are taken: the first that come, up to the bounds."""

    def __init__(self) -> None:
        self._series: set[tuple[bool, Series]] = set()
        self._names: set[tuple[bool, str]] = set()

    def admit(self, series: Series, *, is_count: bool) -> None:
        """Take a series, as it was before, too. Raises ValueError where there are too many."""
        if (key := (is_count, series)) in self._series:
            return
        name = is_count, series.name
        if len(self._series) >= MOST_SERIES:
            raise ValueError(f"{MOST_SERIES} series of this function are shown, the first")
        if name not in self._names and len(self._names) >= MOST_NAMES:
            raise ValueError(f"{MOST_NAMES} names of this function are shown, the first")
        self._series.add(key)
        self._names.add(name)


def _figure(value: object) -> float:
    found = figure(value)
    if found.problem:
        raise ValueError(found.problem)
    number: float = found.value
    if not isfinite(number) or abs(number) > MAX_FIGURE:
        raise ValueError(f"{number} cannot be added up")
    return number


def _name(name: object) -> str:
    if not isinstance(name, str) or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise ValueError(f"a name is ASCII letters, digits and _, at most {MAX_NAME}")
    return str(name)


def _labels(labels: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    if not labels:
        return ()
    if len(labels) > MOST_LABELS:
        raise ValueError(f"it has {len(labels)} labels; {MOST_LABELS} are shown")
    return tuple(sorted((_label(name), _text(value)) for name, value in labels.items()))


def _label(name: str) -> str:
    if name in _TAKEN or name.startswith("__"):
        raise ValueError(f"a label cannot be named {name[:MAX_NAME]}")
    return _name(name)


def _text(value: Any) -> str:
    try:
        text = value if type(value) is str else str(value)
        text.encode()
    except Exception as error:  # noqa: BLE001 - its class may be anybody's, and so what it raises
        kind = type(value).__name__[:MAX_NAME]
        raise ValueError(f"a {kind} is no label ({type(error).__name__})") from None
    if len(text) > MAX_LABEL:
        raise ValueError(f"a label says {len(text)} characters; {MAX_LABEL} are shown")
    return text
