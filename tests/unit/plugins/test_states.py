"""What a task is given equals the stored version, whatever an earlier one did to its own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skipper.function.model import Model
from skipper.instance.jobs import ModelRef
from skipper.instance.models import LoadedModels

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
GIVEN = {"model": "sample"}

Change = Callable[[Any], object]


@pytest.fixture
def estimator(loaded_models: LoadedModels) -> LoadedModels:
    """A store that holds a pipeline."""
    model = make_pipeline(StandardScaler(), SGDClassifier(random_state=0)).fit(X, Y)
    return _holding(loaded_models, model)


@pytest.fixture
def net(loaded_models: LoadedModels, keras: Any) -> LoadedModels:
    """A store that holds a Keras model."""
    layers = [keras.layers.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1, name="last")]
    return _holding(loaded_models, keras.Sequential(layers))


def _holding(models: LoadedModels, model: Any) -> LoadedModels:
    models.put(ModelRef(name="sample", version=1, **models.save(Model("sample", model))))
    return models


def _refit(model: Any) -> None:
    model.compile(loss="mse", optimizer="sgd")
    model.fit(X, Y, verbose=0)


def _use(model: Any) -> None:
    model.predict(X)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[-1].partial_fit(X, Y),
        lambda m: m.set_params(sgdclassifier__alpha=3),
        lambda m: setattr(m, "note", "mine"),
        lambda m: m[-1].coef_.__setitem__(0, 1.0),
        lambda m: m.steps.pop(0),
    ],
)
def test_an_estimator_that_a_task_has_changed_is_loaded_anew(
    estimator: LoadedModels, change: Change
) -> None:
    first = estimator.as_stored(GIVEN)["model"]
    before = first.decision_function(X)
    change(first)
    second = estimator.as_stored(GIVEN)["model"]
    assert second is not first
    np.testing.assert_array_equal(second.decision_function(X), before)
    assert not hasattr(second, "note")


@pytest.mark.parametrize(
    "change",
    [
        _refit,
        lambda m: m.layers[0].set_weights([np.ones((3, 2)), np.ones(2)]),
        lambda m: setattr(m.layers[0], "trainable", False),
        lambda m: setattr(m, "note", "mine"),
        lambda m: m.compile(loss="mse"),
    ],
)
def test_a_net_that_a_task_has_changed_is_loaded_anew(net: LoadedModels, change: Change) -> None:
    first = net.as_stored(GIVEN)["model"]
    before = first(X).numpy()
    change(first)
    second = net.as_stored(GIVEN)["model"]
    assert second is not first
    np.testing.assert_array_equal(second(X).numpy(), before)
    assert second.layers[0].trainable


@pytest.mark.parametrize("kind", ["estimator", "net"])
def test_what_has_only_been_used_is_given_again(kind: str, request: pytest.FixtureRequest) -> None:
    models: LoadedModels = request.getfixturevalue(kind)
    first = models.as_stored(GIVEN)["model"]
    for _ in range(3):
        _use(first)
        assert models.as_stored(GIVEN)["model"] is first


def test_a_new_version_is_given_as_it_is_stored(estimator: LoadedModels) -> None:
    first = estimator.as_stored(GIVEN)["model"]
    first[-1].partial_fit(X, Y)
    saved = estimator.save(Model("sample", first))
    estimator.put(ModelRef(name="sample", version=2, **saved))
    second = estimator.as_stored(GIVEN)["model"]
    np.testing.assert_array_equal(second.predict(X), first.predict(X))
    assert estimator.as_stored(GIVEN)["model"] is second
