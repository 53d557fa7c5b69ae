"""Models as they are in practice: what stood beside a net, and ended every training so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X = np.random.default_rng(0).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)

Through = Callable[[Any], Any]


class Clipped(TransformerMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """A transformer of a project's own."""

    def fit(self, x: Any, y: Any = None) -> Clipped:
        self.most_ = np.abs(x).max(axis=0)
        return self

    def transform(self, x: Any) -> Any:
        return np.clip(x, -self.most_, self.most_)


@dataclass
class Kit:
    scaler: StandardScaler
    classifier: Any
    labels: list[str]
    cut: float


def test_a_scaler_and_labels_beside_a_classifier_come_back_together(stored: Through) -> None:
    """mlflow/mlflow#6180: what prepares the input belongs to the model."""
    scaler = StandardScaler().fit(X)
    classifier = LogisticRegression().fit(scaler.transform(X), Y)
    found = stored(Kit(scaler, classifier, ["no", "yes"], float("nan")))
    assert type(found) is Kit
    assert (found.labels, np.isnan(found.cut)) == (["no", "yes"], True)
    answers = found.classifier.predict(found.scaler.transform(X))
    np.testing.assert_array_equal(answers, classifier.predict(scaler.transform(X)))


def test_a_scaler_and_labels_beside_a_net_come_back_together(stored: Through, keras: Any) -> None:
    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    found = stored({"net": net, "scaler": StandardScaler().fit(X), "labels": ("no", "yes")})
    assert found["labels"] == ("no", "yes")
    expected = net(found["scaler"].transform(X)).numpy()
    np.testing.assert_allclose(found["net"](found["scaler"].transform(X)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        KNeighborsClassifier(3),
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_stands_in_a_structure_answers_as_it_did(stored: Through, model: Any) -> None:
    """skops-dev/skops#498: an estimator that could be fitted, and not be saved."""
    model.fit(X, Y)
    found = stored([model, {"threshold": np.float32(0.5)}])
    np.testing.assert_array_equal(found[0].predict(X), model.predict(X))
    assert found[1]["threshold"].dtype == np.float32


def test_a_net_that_two_parts_share_is_one_afterwards(stored: Through) -> None:
    scaler = StandardScaler().fit(X)
    found = stored({"train": (scaler, 1), "serve": (scaler, 2)})
    assert found["train"][0] is found["serve"][0]


def test_a_pipeline_with_a_transformer_of_ones_own_is_named_where_it_cannot_be_kept(
    stored: Through,
) -> None:
    """One of the project's files is kept; this one is of no project, which is told."""
    model = make_pipeline(Clipped(), LogisticRegression()).fit(X, Y)
    with pytest.raises(ValueError, match=r"value\['model'\], a sklearn.pipeline.Pipeline"):
        stored({"model": model, "labels": ["no"]})
