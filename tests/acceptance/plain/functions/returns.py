"""One function per kind of value."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

import skipper


class Point(BaseModel):
    x: float
    y: float = 0.0


@dataclass
class Pair:
    left: int
    right: str


@skipper.data
def nothing() -> None:
    return None


@skipper.data
def number() -> float:
    return 1.5


@skipper.data
def text() -> str:
    return "naïve ☃"


@skipper.data
def items() -> list[int]:
    return [3, 1, 2]


@skipper.data
def table() -> dict[str, list[bool]]:
    return {"a": [True, False]}


@skipper.data
def model() -> Point:
    return Point(x=1)


@skipper.data
def models() -> list[Point]:
    return [Point(x=1), Point(x=2, y=3)]


@skipper.data
def record() -> Pair:
    return Pair(1, "one")


@skipper.data
def unannotated():  # type: ignore[no-untyped-def] # that is the point
    return {"model": Point(x=1), "record": Pair(2, "two")}


@skipper.data
def mixed() -> dict[str, Any]:
    return {"none": None, "nested": [Pair(3, "three"), (4, "four")]}
