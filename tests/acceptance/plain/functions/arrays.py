"""Values of NumPy, which the template of this file holds imported."""

from typing import Any

import numpy as np

import skipper


@skipper.data
def vector() -> Any:
    return np.arange(3.0)


@skipper.data
def declared() -> list[list[int]]:
    return np.eye(2, dtype=int)  # type: ignore[return-value] # what users write all the same


@skipper.data
def scalar() -> float:
    return np.float32(0.5)  # type: ignore[return-value] # the same


@skipper.data
def inside() -> dict[str, Any]:
    return {"mean": np.mean([1.0, 2.0]), "rows": [np.array([1, 2])]}


@skipper.data
def chance() -> float:
    return float(np.random.default_rng().random() + np.random.random())
