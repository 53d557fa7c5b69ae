"""A Keras model on LitServe: `lit_keras.py PORT MODEL BATCH (called|compiled)`.

``called``: as its documentation shows, ``model(x)``. ``compiled``: through a ``tf.function`` with a
free batch dimension, written by hand and traced before the first call.
"""

import sys
from collections.abc import Callable
from typing import Any

import litserve
import numpy as np
from pydantic import BaseModel


class House(BaseModel):
    x: list[float]


class Boston(litserve.LitAPI):
    def __init__(self, file: str, *, is_compiled: bool, batch: int) -> None:
        super().__init__(max_batch_size=batch)
        self.file, self.is_compiled = file, is_compiled

    def setup(self, device: str) -> None:
        import keras

        del device
        model = keras.saving.load_model(self.file, compile=False)
        self.answer = compiled(model) if self.is_compiled else lambda x: model(x, training=False)
        self.answer(np.zeros((1, model.input_shape[1]), "float32"))

    def decode_request(self, request: House) -> list[float]:
        return request.x

    def predict(self, x: Any) -> Any:
        rows = np.asarray(x, "float32")
        return self.answer(np.atleast_2d(rows)).numpy()[:, 0]

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, float]:
        return {"price": round(float(np.squeeze(output)), 2)}


def compiled(model: Any) -> Callable[[Any], Any]:
    import tensorflow as tf

    shape = tf.TensorSpec((None, model.input_shape[1]), "float32")
    traced: Callable[[Any], Any] = tf.function(
        lambda x: model(x, training=False), input_signature=[shape]
    )
    return traced


if __name__ == "__main__":
    port, file, batch, way = sys.argv[1:]
    api = Boston(file, is_compiled=way == "compiled", batch=int(batch))
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")
