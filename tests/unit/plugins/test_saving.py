"""Models in the store, whatever their format."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from skipper.errors import FormatError
from skipper.function.model import Model
from skipper.instance.models import LoadedModels

X = np.random.default_rng(0).normal(size=(60, 3))
Y = X[:, 0] * 2 + X[:, 1]


def test_a_stored_model_answers_as_the_trained_one(stored: Callable[[Any], Any]) -> None:
    model = LinearRegression().fit(X, Y)

    np.testing.assert_array_equal(stored(model).predict(X), model.predict(X))


def test_what_no_plugin_saves_is_told_with_its_type(loaded_models: LoadedModels) -> None:
    told = r"no plugin saves value, a builtins\.object; .*sklearn-models"
    with pytest.raises(FormatError, match=told):
        loaded_models.save(Model("sample", object()))
