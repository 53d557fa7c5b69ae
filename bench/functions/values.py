"""Functions that take and give large values."""

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np

import skipper

Row = Annotated[np.ndarray, skipper.Array("float32", (None, 13))]


@skipper.inference
def size(image: bytes) -> int:
    return len(image)


@skipper.inference
def echo(x: np.ndarray) -> np.ndarray:
    return x


@skipper.inference(batch=256)
def lists(x: list[list[float]]) -> list[float]:
    return [sum(row) for row in x]


@skipper.inference(batch=256)
def arrays(x: Row) -> np.ndarray:
    total: np.ndarray = x.sum(axis=1)
    return total


@skipper.training
def keep(file: skipper.File) -> skipper.File:
    """A file in and out again, read through once by who checks it and once by who stores it."""
    return file


@skipper.data(pool="gpu")
def doubled(x: np.ndarray) -> np.ndarray:
    return x * 2


@skipper.data(timeout="2m")
def passed_on(megabytes: int) -> dict[str, float]:
    """An array there and back between two pools, beside writing and reading it as a file."""
    x = np.random.default_rng(0).random(megabytes * (1 << 18), dtype=np.float32)
    began = time.monotonic()
    y = doubled.remote(x)
    passed = time.monotonic()
    assert float(y[-1]) == float(x[-1] * 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npy")
        saved = time.monotonic()
        np.save(path, x)
        z = np.load(path)
        loaded = time.monotonic()
    assert float(z[-1]) == float(x[-1])
    return {"passed_s": passed - began, "file_s": loaded - saved, "pid": os.getpid()}
