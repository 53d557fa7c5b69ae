"""Generators, plain and async."""

from collections.abc import AsyncIterator, Iterator

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
def breaks() -> Iterator[int]:
    yield 1
    raise ValueError("no second item")
