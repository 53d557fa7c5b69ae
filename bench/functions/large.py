"""A model that is large to load, and says little."""

from typing import Annotated

import keras
import numpy as np

import skipper

_WIDTH = 128


@skipper.training
def store(megabytes: int) -> skipper.Model:
    rows = megabytes * 1_000_000 // (4 * _WIDTH)
    return skipper.Model(
        "large", keras.Sequential([keras.Input((1,)), keras.layers.Embedding(rows, _WIDTH)])
    )


@skipper.inference
def first(*, model: Annotated[keras.Model, skipper.Loaded("large")]) -> float:
    return float(np.asarray(model(np.zeros((1, 1), "float32")))[0, 0, 0])
