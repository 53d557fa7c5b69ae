"""Generators, plain and async."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from pydantic import BaseModel

import skipper


class Word(BaseModel):
    text: str


@skipper.data
def count(to: int) -> Iterator[int]:
    yield from range(to)


@skipper.inference
async def words(text: str = "so it goes") -> AsyncIterator[Word]:
    for word in text.split():
        yield Word(text=word)


@skipper.data
def heavy(items: int, size: int, note: str) -> Iterator[str]:
    """Notes in a file how many items it has made, and at last that it was closed."""
    try:
        for made in range(items):
            Path(note).write_text(str(made))
            yield "x" * size
    finally:
        Path(f"{note}.closed").touch()


@skipper.data
def breaks() -> Iterator[int]:
    yield 1
    raise ValueError("no second item")
