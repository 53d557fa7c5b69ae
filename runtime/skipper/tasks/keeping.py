"""What of a model's versions is to be kept, as somebody says it, and what functions pin."""

from __future__ import annotations

from collections.abc import Iterable

from skipper import selectors
from skipper.ledger.records import Keeping
from skipper.wire.messages import ListedFunction

_DAY_S = 86400.0


def keeping(versions: int | None, days: float | None, *, by: str, now: float) -> Keeping:
    """The newest ``versions``, and those of the last ``days``; one of which is given."""
    words = [f"the newest {versions}"] if versions is not None else []
    words += [f"those of the last {days:g} days"] if days is not None else []
    since = None if days is None else now - days * _DAY_S
    why = f"{by} has kept {' and '.join(words)} only"
    return Keeping(versions=versions, since=since, why=why)


def pinned(functions: Iterable[ListedFunction], name: str) -> set[int]:
    """The versions of a model that functions ask for by number."""
    asked = (selectors.parse(text) for function in functions for text in function.spec.models)
    return {each.at for each in asked if each.name == name and isinstance(each.at, int)}
