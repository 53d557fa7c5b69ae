"""Make the Keras model that everybody serves, as functions/boston.py does: `boston.py CSV FILE`."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import keras
import numpy as np

_LEFT_OUT = ("B", "MEDV")  # see functions/data/README.md


def main() -> None:
    with Path(sys.argv[1]).open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    inputs = [name for name in rows[0] if name not in _LEFT_OUT]
    x = np.array([[float(row[name]) for name in inputs] for row in rows])
    y = np.array([float(row["MEDV"]) for row in rows])
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((x.shape[1],)),
            keras.layers.Normalization(mean=x.mean(axis=0), variance=x.var(axis=0)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(1),
            keras.layers.Rescaling(float(y.std()), float(y.mean())),
        ]
    )
    net.compile("adam", loss="mse")
    net.fit(x, y, epochs=5, verbose=0)
    net.save(sys.argv[2])


if __name__ == "__main__":
    main()
