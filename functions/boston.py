"""House prices around Boston: data, training on TensorFlow, answers over REST.

The table is ``data/boston_housing.csv``: 506 census tracts and the median value of their homes. Its
column B is no input here: it encodes the share of Black residents, and a price must not depend on
race; scikit-learn removed the data set for that column.
"""

import csv
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

import skipper
import skipper_tensorflow

FILE = Path(__file__).with_name("data") / "boston_housing.csv"


class House(BaseModel):
    """A census tract. What is left out counts as the median of the 506 tracts."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    crim: float = Field(0.257, ge=0, description="crimes per head and year")
    zn: float = Field(0, ge=0, le=100, description="% of land zoned for lots over 25,000 sq.ft")
    indus: float = Field(9.69, ge=0, le=100, description="% of land of non-retail business")
    chas: int = Field(0, ge=0, le=1, description="1 if the tract lies on the Charles River")
    nox: float = Field(0.538, ge=0, description="nitric oxides, parts per 10 million")
    rm: float = Field(6.21, ge=0, description="rooms per dwelling, mean")
    age: float = Field(
        77.5, ge=0, le=100, description="% of owner-occupied units built before 1940"
    )
    dis: float = Field(3.21, ge=0, description="weighted distance to five employment centres")
    rad: float = Field(5, ge=0, description="index of access to radial highways")
    tax: float = Field(330, ge=0, description="property tax in $ per $10,000")
    ptratio: float = Field(19.1, ge=0, description="pupils per teacher")
    lstat: float = Field(11.4, ge=0, le=100, description="% of people of lower status")


class Price(BaseModel):
    price: float = Field(description="median value of the tract's homes, in $1000s of 1978")


class Rows(TypedDict):
    x: list[list[float]]
    """(rows, 12): the fields of House, in their order and units."""
    y: list[float]
    """(rows,): prices in $1000s."""


class Table(TypedDict):
    train: Rows
    test: Rows


@skipper.data
def prepare(
    split: Annotated[float, Field(gt=0, lt=1)] = 0.2, seed: Annotated[int, Field(ge=0)] = 0
) -> Table:
    """Part the table by chance into rows to train on and a share of ``split`` to test on."""
    with FILE.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    x = np.array([[float(row[name.upper()]) for name in House.model_fields] for row in rows])
    y = np.array([float(row["MEDV"]) for row in rows])
    order = np.random.default_rng(seed).permutation(len(rows))
    test, train = np.split(order, [round(len(rows) * split)])
    return {
        "train": {"x": x[train].tolist(), "y": y[train].tolist()},
        "test": {"x": x[test].tolist(), "y": y[test].tolist()},
    }


@skipper.training(timeout="10m")
def train(
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 40,
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
    *,
    run: skipper.Run,
) -> skipper.Model:
    """Train a small net and store it as ``boston``. The same seed makes the same split and net.

    Metrics are of the fifth of the rows that training never sees, in $1000s.
    """
    keras.utils.set_random_seed(seed)
    table = prepare(seed=seed)  # runs here; prepare.remote(seed=seed) runs it in the runtime
    x, y = np.array(table["train"]["x"]), np.array(table["train"]["y"])
    x_test, y_test = np.array(table["test"]["x"]), np.array(table["test"]["y"])

    net = network(x, y)
    steps = epochs * -(-len(x) // 32)
    net.compile(
        keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.01, steps), 0.1),
        loss="mse",
        steps_per_execution=8,  # one call into TensorFlow for eight small batches
    )
    net.fit(
        x,
        y,
        batch_size=32,
        epochs=epochs,
        validation_data=(x_test, y_test),  # shown beside the loss, not learned from
        callbacks=[skipper_tensorflow.EpochProgress(run)],
        verbose=0,
    )
    if run.cancelled:
        raise skipper.Cancelled

    error = net(x_test, training=False).numpy()[:, 0] - y_test
    metrics = {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "rows_trained": len(y),
        "rows_held_out": len(y_test),
    }
    return skipper.Model("boston", net, metrics)


@skipper.inference(batch=64)
def predict(
    houses: list[House], *, model: Annotated[keras.Model, skipper.Loaded("boston")]
) -> list[Price]:
    """Estimate the price of homes in a tract.

    Each caller sends one house and gets one price; up to 64 of them are answered in one go.
    """
    x = np.array([list(house.model_dump().values()) for house in houses], "float32")
    return [Price(price=round(float(price), 2)) for price in model(x).numpy()[:, 0]]


def network(x: np.ndarray, y: np.ndarray) -> keras.Model:
    """A net from inputs in their own units, (rows, 12), to prices in $1000s, (rows, 1).

    Scaling is part of it, so that whoever serves it needs nothing else.
    """
    return keras.Sequential(
        [
            keras.Input((x.shape[1],)),
            keras.layers.Normalization(mean=x.mean(axis=0), variance=x.var(axis=0)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(1),
            keras.layers.Rescaling(float(y.std()), float(y.mean())),
        ]
    )
