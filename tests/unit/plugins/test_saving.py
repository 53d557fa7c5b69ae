"""scikit-learn models in the store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression

import skipper_tabular
from skipper.errors import FormatError
from skipper.function.model import Model
from skipper.instance.models import LoadedModels
from skipper_tabular import saving

X = np.random.default_rng(0).normal(size=(60, 3))
Y = X[:, 0] * 2 + X[:, 1]

touched: list[str] = []


class Foreign(BaseEstimator):  # type: ignore[misc] # scikit-learn carries no types
    """An estimator of somebody else's, which does something when it is loaded."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        touched.append("loaded")
        self.__dict__ |= state


@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        HistGradientBoostingRegressor(max_iter=3, random_state=0),
        RandomForestClassifier(3, random_state=0),
    ],
)
def test_a_stored_estimator_answers_as_the_trained_one(
    model: Any, stored: Callable[[Any], Any]
) -> None:
    model.fit(X, Y if "Class" not in type(model).__name__ else Y > 0)

    np.testing.assert_array_equal(stored(model).predict(X), model.predict(X))


def test_an_estimator_of_a_foreign_type_is_refused_when_it_is_saved(
    loaded_models: LoadedModels,
) -> None:
    with pytest.raises(FormatError, match="Foreign is not saved"):
        loaded_models.save(Model("sample", Foreign()))


def test_a_file_with_a_foreign_type_is_refused_before_anything_of_it_is_made(
    tmp_path: Path,
) -> None:
    skops.io.dump({"a": Foreign()}, tmp_path / "model.skops")

    with pytest.raises(FormatError, match="Foreign is not loaded"):
        saving.load(tmp_path)
    assert touched == []


def test_what_is_no_estimator_is_left_to_other_plugins(tmp_path: Path) -> None:
    assert skipper_tabular.skipper_save_model(value={"a": 1}, folder=tmp_path) is None
    assert skipper_tabular.skipper_load_model(format="keras", folder=tmp_path) is None
