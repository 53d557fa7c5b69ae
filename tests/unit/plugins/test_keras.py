"""What the tensorflow plugin does with Keras: models in the store, epochs as progress, forks."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skipper_tensorflow
from skipper.errors import FormatError
from skipper.function.model import Model
from skipper.instance.models import LoadedModels
from skipper.settings.environment import thread_limits
from tests.unit.plugins.stand_in import KeptEvents

X = np.linspace(-1, 1, 64, dtype="float32").reshape(32, 2)
Y = X.sum(axis=1)


def _net(keras: Any, *layers: Any) -> Any:
    net = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])
    net.compile("adam", "mse", metrics=["mae"])
    return net


@pytest.fixture(scope="session")
def recorder(keras: Any) -> tuple[Any, list[bool]]:
    """A layer that records when its Python runs: in a graph that is when the graph is made."""
    ran: list[bool] = []

    @keras.saving.register_keras_serializable(package="tests")
    class Recorder(keras.layers.Layer):  # type: ignore[misc] # Keras carries no types
        def call(self, inputs: Any) -> Any:
            ran.append(True)
            return inputs

    return Recorder, ran


def test_a_stored_model_answers_as_the_trained_one(
    keras: Any, stored: Callable[[Any], Any]
) -> None:
    net = _net(keras, keras.layers.Dense(4, activation="relu"))
    net.fit(X, Y, epochs=1, verbose=0)

    loaded = stored(net)

    assert isinstance(loaded, keras.Model)
    np.testing.assert_allclose(loaded(X, training=False), net(X, training=False), rtol=1e-6)


def test_a_loaded_model_runs_as_a_graph_for_any_number_of_rows(
    keras: Any, stored: Callable[[Any], Any], recorder: tuple[Any, list[bool]]
) -> None:
    layer, ran = recorder
    loaded = stored(_net(keras, layer()))
    ran.clear()

    assert [loaded(X[:rows]).shape[0] for rows in (1, 7, 32)] == [1, 7, 32]
    assert ran == []


def test_a_loaded_model_can_be_trained_on_and_stored_again(
    keras: Any, stored: Callable[[Any], Any]
) -> None:
    loaded = stored(_net(keras))
    loaded.compile("sgd", "mse")
    before = loaded(X).numpy()
    loaded.fit(X, Y, epochs=2, verbose=0)

    again = stored(loaded)

    assert not np.allclose(before, loaded(X).numpy())
    np.testing.assert_allclose(again(X), loaded(X), rtol=1e-6)
    assert type(loaded).__name__ == "Sequential"


@pytest.mark.parametrize("named", [False, True])
def test_a_model_of_several_inputs_runs_as_a_graph(
    keras: Any, stored: Callable[[Any], Any], recorder: tuple[Any, list[bool]], named: bool
) -> None:
    layer, ran = recorder
    left, right = keras.Input((1,), name="left"), keras.Input((1,), name="right")
    added = layer()(keras.layers.Add()([left, right]))
    net = keras.Model({"left": left, "right": right} if named else [left, right], added)
    loaded = stored(net)
    ran.clear()

    given = {"left": X[:, :1], "right": X[:, 1:]} if named else [X[:, :1], X[:, 1:]]
    np.testing.assert_allclose(loaded(given), X.sum(axis=1, keepdims=True))
    assert ran == []


def test_a_model_of_rows_of_any_length_runs_as_a_graph(
    keras: Any, stored: Callable[[Any], Any], recorder: tuple[Any, list[bool]]
) -> None:
    layer, ran = recorder
    layers = [keras.layers.Conv1D(1, 3), layer(), keras.layers.GlobalAveragePooling1D()]
    loaded = stored(keras.Sequential([keras.Input((None, 2)), *layers]))
    ran.clear()

    assert [loaded(np.ones((4, length, 2))).shape for length in (3, 50)] == [(4, 1), (4, 1)]
    assert ran == []


def test_what_a_graph_does_not_take_is_left_to_keras(
    keras: Any, stored: Callable[[Any], Any]
) -> None:
    loaded = stored(_net(keras))

    with pytest.raises(ValueError, match=r"incompatible|expected axis"):
        loaded(np.ones((4, 3)))
    assert loaded(X).shape == (32, 1)


def test_whole_numbers_stay_whole(keras: Any, stored: Callable[[Any], Any]) -> None:
    net = keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.Embedding(5, 2)])

    given = np.array([[0, 1, 4]])
    np.testing.assert_allclose(stored(net)(given), net(given))


def test_a_model_is_one_keras_file_and_names(keras: Any, tmp_path: Path) -> None:
    assert skipper_tensorflow.skipper_save_model(value=_net(keras), folder=tmp_path) == "keras"
    files = {file.name: file for file in tmp_path.iterdir()}
    assert files.keys() == {"model.keras", "project.json"}
    assert json.loads(files["project.json"].read_text()) == {}


OWN = """
import keras

class Scale(keras.layers.Layer):
    def call(self, x):
        return x * 2

@keras.saving.register_keras_serializable(package="shop")
class Shift(keras.layers.Layer):
    def call(self, x):
        return x + 1

class Net(keras.Model):
    def __init__(self, **given):
        super().__init__(**given)
        self.scale = Scale()

    def call(self, x):
        return self.scale(x)

def cube(x):
    return x ** 3

@keras.saving.register_keras_serializable(package="shop")
def halve(x):
    return x / 2
"""
TRAINS = "import skipper\nfrom functions import _own\nskipper.Model('net', _own)\n"
PROJECT = {
    "functions/_own.py": OWN,
    "functions/train.py": TRAINS,
    "functions/serve.py": "import skipper\nskipper.Loaded('net')\n",
}


@pytest.mark.parametrize("of", ["functions/train.py", "functions/serve.py"])
def test_layers_of_the_project_registered_or_not_are_loaded_from_it_keras_21046(
    keras: Any, of: str, project: Callable[..., None], stored: Callable[[Any], Any]
) -> None:
    """An unregistered layer used to be saved, and then nobody could load it."""
    project(PROJECT, of)
    own = importlib.import_module("functions._own")
    inner = keras.Sequential([keras.Input((2,)), own.Shift(), keras.layers.Activation(own.halve)])
    net = _net(keras, own.Scale(), inner, keras.layers.Dense(3, activation=own.cube))

    loaded = stored(net)
    np.testing.assert_allclose(loaded(X), net(X), rtol=1e-4)
    assert type(loaded.layers[0]) is own.Scale


def test_a_model_class_of_the_project_is_loaded_from_it(
    keras: Any, project: Callable[..., None], stored: Callable[[Any], Any]
) -> None:
    project(PROJECT, "functions/serve.py")
    net = importlib.import_module("functions._own").Net()
    net(X)

    np.testing.assert_allclose(stored(net)(X), X * 2)


def test_a_layer_that_is_gone_from_the_project_is_told(
    keras: Any, project: Callable[..., None], tmp_path: Path
) -> None:
    project(PROJECT, "functions/train.py")
    own = importlib.import_module("functions._own")
    (tmp_path / "saved").mkdir()
    skipper_tensorflow.skipper_save_model(value=_net(keras, own.Scale()), folder=tmp_path / "saved")
    del own.Scale

    with pytest.raises(FormatError, match="Scale, which the model names, is gone from the project"):
        skipper_tensorflow.skipper_load_model(format="keras", folder=tmp_path / "saved")


def test_an_unregistered_layer_of_no_file_of_the_project_is_refused_when_it_is_saved(
    keras: Any, loaded_models: LoadedModels
) -> None:
    class Nobodys(keras.layers.Layer):  # type: ignore[misc] # Keras carries no types
        pass

    with pytest.raises(FormatError, match="Nobodys, which the model names, is of no file"):
        loaded_models.save(Model("sample", _net(keras, Nobodys())))


def _damaged(data: bytes, how: str) -> bytes | None:
    cut = {"truncated": data[: len(data) // 2], "missing": None, "empty": b""}
    return cut.get(how, bytes(byte ^ (at == len(data) // 2) for at, byte in enumerate(data)))


@pytest.mark.parametrize("how", ["truncated", "missing", "empty", "a bit flipped"])
def test_a_damaged_file_is_told_in_a_sentence(keras: Any, tmp_path: Path, how: str) -> None:
    skipper_tensorflow.skipper_save_model(value=_net(keras), folder=tmp_path)
    file = tmp_path / "model.keras"
    data = _damaged(file.read_bytes(), how)
    file.unlink()
    if data is not None:
        file.write_bytes(data)

    with pytest.raises(FormatError, match="the keras model cannot be loaded: "):
        skipper_tensorflow.skipper_load_model(format="keras", folder=tmp_path)


def test_a_lambda_layer_is_refused_when_it_is_saved(
    keras: Any, loaded_models: LoadedModels
) -> None:
    inner = _net(keras, keras.layers.Lambda(lambda x: x * 2, name="twice"))

    with pytest.raises(FormatError, match="'twice' is a Lambda"):
        loaded_models.save(Model("sample", keras.Sequential([keras.Input((2,)), inner])))


def test_code_in_a_stored_file_is_not_run(keras: Any, tmp_path: Path) -> None:
    _net(keras, keras.layers.Lambda(lambda x: x)).save(tmp_path / "model.keras")

    with pytest.raises(ValueError, match=r"unsafe|safe_mode"):
        skipper_tensorflow.skipper_load_model(format="keras", folder=tmp_path)


def test_every_epoch_is_reported_with_what_keras_measures(keras: Any, kept: KeptEvents) -> None:
    _net(keras).fit(
        X,
        Y,
        epochs=3,
        validation_data=(X, Y),
        callbacks=[skipper_tensorflow.EpochProgress(kept.run)],
        verbose=0,
    )

    assert [(event["done"], event["total"]) for event in kept.progress] == [(1, 3), (2, 3), (3, 3)]
    assert kept.progress[0].keys() == {"done", "total", "loss", "mae", "val_loss", "val_mae"}
    assert all(type(event["loss"]) is float for event in kept.progress)


def test_what_is_no_figure_among_what_is_logged_ends_no_training(
    keras: Any, kept: KeptEvents
) -> None:
    """https://github.com/treeverse/dvclive/issues/253"""
    callback = skipper_tensorflow.EpochProgress(kept.run)
    callback.set_params({"epochs": 2})
    logs = {"loss": np.float32(0.5), "matrix": np.ones((2, 2)), "none": None, "text": "best"}
    callback.on_epoch_end(0, logs)
    callback.on_epoch_end(1, {"loss": keras.ops.ones(1), "pair": keras.ops.ones(2)})
    assert kept.progress[0] == {"done": 1, "total": 2, "loss": 0.5, "none": None, "text": "best"}
    assert kept.progress[1] == {"done": 2, "total": 2, "loss": 1.0}


def test_the_total_of_several_rounds_can_be_given(keras: Any, kept: KeptEvents) -> None:
    net = _net(keras)

    for start in (0, 2):
        net.fit(
            X,
            Y,
            initial_epoch=start,
            epochs=start + 2,
            callbacks=[skipper_tensorflow.EpochProgress(kept.run, total=4)],
            verbose=0,
        )

    assert [(event["done"], event["total"]) for event in kept.progress] == [
        (1, 4),
        (2, 4),
        (3, 4),
        (4, 4),
    ]


def test_training_stops_in_the_epoch_that_is_cancelled(keras: Any, kept: KeptEvents) -> None:
    kept.cancel_after = 2

    history = _net(keras).fit(
        X,
        Y,
        batch_size=1,
        epochs=100,
        callbacks=[skipper_tensorflow.EpochProgress(kept.run)],
        verbose=0,
    )

    assert len(kept.progress) == 2
    assert len(history.epoch) == 3


def test_random_states_are_renewed_in_each_instance(
    keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.setenv(name, "")

    drawn = []
    for _ in range(2):
        keras.utils.set_random_seed(1)  # the state that two forks of one template start from
        skipper_tensorflow.skipper_instance_started(threads=1)
        weights = keras.layers.Dense(1)
        weights.build((None, 1))
        drawn.append((float(weights.kernel[0, 0]), float(keras.random.uniform((1,))[0])))

    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


_FORK = """
import os
import keras, tensorflow
import skipper_tensorflow

def threads():
    return len(os.listdir("/proc/self/task"))

assert threads() == 1, threads()
counts = []
for share in (1, 3):
    reader, writer = os.pipe()
    if os.fork() == 0:
        skipper_tensorflow.skipper_instance_started(threads=share)
        net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        net(tensorflow.ones((1, 2)))
        os.write(writer, str(threads()).encode())
        os._exit(0)
    os.close(writer)
    counts.append(int(os.read(reader, 10)))
print(counts[1] - counts[0])
"""


_TOLD = """
import tensorflow
import skipper_tensorflow

skipper_tensorflow.skipper_instance_started(threads=1)
first = skipper_tensorflow.skipper_threads_changed(threads=2)
tensorflow.ones((1, 2))
later = [skipper_tensorflow.skipper_threads_changed(threads=each) for each in (4, 1)]
print(first, later)
"""


@pytest.mark.slow
def test_tensorflow_takes_its_share_until_it_computes_and_says_what_it_keeps(keras: Any) -> None:
    del keras
    found = subprocess.run(
        [sys.executable, "-c", _TOLD], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "None [2, 2]"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="templates fork on Linux only")
def test_a_fork_of_a_template_computes_on_its_share_of_the_cores(keras: Any) -> None:
    del keras
    found = subprocess.run(
        [sys.executable, "-c", _FORK],
        capture_output=True,
        text=True,
        check=False,
        env=thread_limits(1),
    )

    assert found.returncode == 0, found.stderr
    assert int(found.stdout) == 4  # two pools, within and between operations, grow by two each
