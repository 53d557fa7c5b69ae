"""What a body may be."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

import skipper


class House(BaseModel):
    rooms: int = Field(gt=0)
    area: float = 50.0


@skipper.data
def add(x: int, y: int = 10) -> int:
    """Add two numbers.

    The second one is ten unless said otherwise.
    """
    return x + y


@skipper.inference
def price(house: House) -> float:
    return house.rooms * house.area


@skipper.data
def both(house: House, factor: Annotated[float, Field(le=2)] = 1.0) -> float:
    return house.rooms * factor


@skipper.data
def echo(value: Any) -> Any:
    return value


@skipper.data
def size(text: str = "") -> int:
    return len(text)


@skipper.data
def blow_up(times: int) -> str:
    return "x" * times
