"""Handwritten digits: a small convolutional net in the gpu pool (on the CPU where there is no GPU).

The images are scikit-learn's own copy of the UCI set: 1,797 of 8 by 8 pixels, each 0 (white) to 16.
A caller may send a picture as well, dark on light, as PNG or JPEG.
"""

from typing import Annotated

import keras
import numpy as np
import PIL.Image
from pydantic import BaseModel, Field
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import skipper
import skipper_tensorflow

Pixel = Annotated[float, Field(ge=0, le=16, allow_inf_nan=False)]
Line = Annotated[list[Pixel], Field(min_length=8, max_length=8)]
Lines = Annotated[list[Line], Field(min_length=8, max_length=8)]
Picture = Annotated[PIL.Image.Image, skipper.Image("L", (8, 8))]


class Digit(BaseModel):
    digit: int
    probability: float = Field(description="as the net sees it, 0 to 1")


@skipper.training(pool="gpu", timeout="10m")
def train(
    epochs: Annotated[int, Field(ge=1, le=1000)] = 15,
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
    *,
    run: skipper.Run,
) -> skipper.Model:
    """Train on four fifths of the images and store the net as ``digits``.

    ``accuracy`` is the share of the other fifth that it names rightly.
    """
    keras.utils.set_random_seed(seed)
    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        images.reshape(-1, 8, 8), labels, test_size=0.2, stratify=labels, random_state=seed
    )
    net = network()
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
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

    found = net(x_test, training=False).numpy().argmax(axis=1)
    return skipper.Model("digits", net, {"accuracy": float(np.mean(found == y_test))})


@skipper.inference(pool="gpu")
def predict(
    image: Picture | Lines, *, model: Annotated[keras.Model, skipper.Loaded("digits")]
) -> Digit:
    """Name the digit in an image: a picture, or 8 lines of 8 pixels, 0 (white) to 16 (black)."""
    chances = model(pixels(image)[None], training=False).numpy()[0]
    return Digit(digit=int(chances.argmax()), probability=float(chances.max()))


def pixels(image: PIL.Image.Image | list[list[float]]) -> np.ndarray:
    """An image as the net knows it: (8, 8) of 0 (white) to 16 (black), float32."""
    if isinstance(image, PIL.Image.Image):
        return 16 - np.asarray(image, "float32") / 255 * 16
    return np.array(image, "float32")


def network() -> keras.Model:
    """A net from images, (rows, 8, 8) of 0 to 16, to the chance of each digit, (rows, 10)."""
    return keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.Rescaling(1 / 16),
            keras.layers.Reshape((8, 8, 1)),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
