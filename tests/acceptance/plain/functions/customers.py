"""A model for each customer."""

from typing import Annotated

import skipper

Line = dict[str, float]
Own = Annotated[Line, skipper.Loaded("churn-{customer}", max_loaded=3)]


@skipper.training
def train(customer: str, slope: float, *, run: skipper.Run) -> skipper.Model:
    """Remember the slope, and how it has changed since the version that serves."""
    champion = run.model(f"churn-{customer}", default={"slope": slope})
    change = slope - champion["slope"]
    return skipper.Model(f"churn-{customer}", {"slope": slope}, metrics={"change": change})


@skipper.inference
def predict(customer: str, x: float = 1.0, *, model: Own) -> float:
    return model["slope"] * x


@skipper.inference(pool="gpu")
def predict_elsewhere(customer: str, x: float = 1.0, *, model: Own) -> float:
    return model["slope"] * x


@skipper.inference(batch=8)
def predict_many(customer: list[str], *, model: Own) -> list[float]:
    return [model["slope"]] * len(customer)


@skipper.inference
def by_name(customer: str) -> float:
    return float(skipper.load(f"churn-{customer}", default={"slope": -1.0})["slope"])


@skipper.inference
def with_default(
    x: float, *, model: Annotated[Line | None, skipper.Loaded("churn-default", default=None)]
) -> float:
    return x if model is None else model["slope"] * x
