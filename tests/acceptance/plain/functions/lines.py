"""Models without a library: ``plugins/tinyjson.py`` saves and loads them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import skipper

Line = dict[str, float]


@skipper.training
def train(slope: float) -> skipper.Model:
    return skipper.Model("line", {"slope": slope}, metrics={"slope": slope})


@skipper.inference
def predict(x: float, *, model: Annotated[Line, skipper.Loaded("line")]) -> float:
    return model["slope"] * x


@skipper.inference
def predict_all(
    xs: list[float], *, model: Annotated[Line, skipper.Loaded("line")]
) -> Iterator[float]:
    for x in xs:
        yield model["slope"] * x


@skipper.inference
async def predict_async(x: float, *, model: Annotated[Line, skipper.Loaded("line")]) -> float:
    return model["slope"] * x


@skipper.inference(pool="gpu")
def predict_elsewhere(x: float, *, model: Annotated[Line, skipper.Loaded("line")]) -> float:
    return model["slope"] * x


@skipper.inference
def predict_late(x: float, *, model: Annotated[Line, skipper.Loaded("line")]) -> float:
    return model["slope"] * x


@skipper.training
def train_other(slope: float) -> skipper.Model:
    return skipper.Model("other", {"slope": slope})


@skipper.inference
def predict_other(x: float, *, model: Annotated[Line, skipper.Loaded("other")]) -> float:
    return model["slope"] * x


@skipper.training
def train_grown(slope: float) -> skipper.Model:
    return skipper.Model("grown", {"slope": slope})


@skipper.training
def grow(
    by: float, fails: bool = False, *, model: Annotated[Line, skipper.Loaded("grown")]
) -> list[float]:
    """What it was given, and what it has made of that."""
    before = model["slope"]
    model["slope"] += by
    if fails:
        raise ValueError("after the change")
    return [before, model["slope"]]


@skipper.inference(mode="task")
async def grow_async(by: float, *, model: Annotated[Line, skipper.Loaded("grown")]) -> list[float]:
    before = model["slope"]
    model["slope"] += by
    return [before, model["slope"]]


@skipper.inference(batch=8)
def grow_batch(by: list[float], *, model: Annotated[Line, skipper.Loaded("grown")]) -> list[float]:
    model["slope"] += sum(by)
    return [model["slope"]] * len(by)


@skipper.training(retries=3)
def train_unknown() -> skipper.Model:
    return skipper.Model("unknown", object())


class Slope(dict[str, float]):
    """What the plugin saves, and no structure."""


class Odd:
    """What nobody saves."""


@dataclass
class Kit:
    line: Slope
    odd: Odd


@skipper.training
def train_half() -> skipper.Model:
    return skipper.Model("half", Kit(Slope(slope=2.0), Odd()))


@skipper.training
def train_damaged() -> skipper.Model:
    return skipper.Model("line", {"slope": 0.0, "damaged": 1.0})


@skipper.training
def train_two(slope: float) -> dict[str, skipper.Model]:
    return {
        "up": skipper.Model("up", {"slope": slope}, params={"sign": 1}),
        "down": skipper.Model("down", (Slope(slope=-slope), ["labels"])),
    }


@skipper.training
def train_on(slopes: list[float], *, run: skipper.Run) -> list[int]:
    """Publish a model for each slope, and go on where one cannot be loaded."""
    versions = []
    for step, slope in enumerate(slopes):
        value = {"slope": slope} if slope else {"slope": 0.0, "damaged": 1.0}
        try:
            versions.append(run.save(skipper.Model("on", value), step=step)["version"])
        except skipper.FormatError as error:
            run.log(f"left out: {error}")
    return versions


@skipper.inference
def predict_on(x: float, *, model: Annotated[Line, skipper.Loaded("on")]) -> float:
    return model["slope"] * x
