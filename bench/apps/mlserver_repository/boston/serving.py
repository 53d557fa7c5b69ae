"""A Keras model on MLServer, called as LitServe's compiled one is.

The environment's ``MODEL`` is its file, which every load by the repository's API reads anew.
"""

import os
from typing import Any

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Boston(MLModel):
    answer: Any

    async def load(self) -> bool:
        import keras
        import tensorflow as tf

        model = keras.saving.load_model(os.environ["MODEL"], compile=False)
        shape = tf.TensorSpec((None, model.input_shape[1]), "float32")
        self.answer = tf.function(lambda x: model(x, training=False), input_signature=[shape])
        self.answer(np.zeros(shape=(1, model.input_shape[1]), dtype="float32"))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        prices = self.answer(rows).numpy()
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output("price", prices)],
        )
