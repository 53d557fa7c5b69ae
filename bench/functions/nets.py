"""Functions on TensorFlow. The model is made beforehand, the same for everybody."""

import time
from typing import Annotated

import keras
import numpy as np
import tensorflow as tf

import skipper

Boston = Annotated[keras.Model, skipper.Loaded("boston")]


@skipper.training
def store(file: str) -> skipper.Model:
    return skipper.Model("boston", keras.saving.load_model(file))


@skipper.inference(batch=64)
def predict(x: list[list[float]], *, model: Boston) -> list[dict[str, float]]:
    prices = model(np.asarray(x, "float32"), training=False)
    return [{"price": round(float(price), 2)} for price in np.asarray(prices)[:, 0]]


@skipper.inference
def bare(x: list[float]) -> float:
    """TensorFlow at work without a model."""
    return float(tf.reduce_sum(tf.constant(x)))


@skipper.inference(max=4)
def held(x: list[float], seconds: float, *, model: Boston) -> float:
    """Hold an instance that has predicted."""
    price = float(np.asarray(model(np.asarray([x], "float32"), training=False))[0, 0])
    time.sleep(seconds)
    return price


@skipper.inference(max=4)
def held_bare(x: list[float], seconds: float) -> float:
    """Hold an instance that has computed, without a model."""
    total = float(tf.reduce_sum(tf.constant(x)))
    time.sleep(seconds)
    return total


@skipper.training
def busy(seconds: float, *, run: skipper.Run) -> None:
    """Train for so long, or until told to stop, as hard as it goes."""
    x, y = np.random.default_rng(0).normal(size=(512, 12)), np.zeros(512)
    layers = [keras.Input((12,)), keras.layers.Dense(256, "relu"), keras.layers.Dense(1)]
    net = keras.Sequential(layers)
    net.compile("adam", loss="mse")
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not run.cancelled:
        net.fit(x, y, batch_size=64, epochs=1, verbose=0)
        run.progress(0)
    if run.cancelled:
        raise skipper.Cancelled
