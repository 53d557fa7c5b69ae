"""What is wrong with single functions of a file, kept while the rest of the file goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from skipper.errors import DefinitionError


class Mistake(NamedTuple):
    """A function that cannot be served, by its name, and why."""

    function: str
    error: BaseException


_kept: list[list[Mistake]] = []
"""Where mistakes go instead of being raised: the last of these."""


@contextlib.contextmanager
def keeping(mistakes: list[Mistake]) -> Iterator[None]:
    """Within the block, :func:`tell` adds to ``mistakes``, of whichever thread."""
    _kept.append(mistakes)
    try:
        yield
    finally:
        _kept.pop()


def tell(function: str, error: DefinitionError) -> None:
    """Raise ``error``, or add it to the mistakes that are kept."""
    if not _kept:
        raise error
    _kept[-1].append(Mistake(function, error))
