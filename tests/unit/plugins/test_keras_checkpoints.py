"""Trainings of Keras that go on from where they had come to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skipper
import skipper_tensorflow
from skipper.function.run import Restored
from tests.unit.plugins.stand_in import KeptEvents

X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
Y = X @ np.array([[1.0], [-2.0], [0.5]], "float32")
EPOCHS = 6


class Killed(BaseException):
    """What ends a run in the middle."""


class Shelf:
    """Keeps the last checkpoint of a run as the store does: the content, apart from the run's."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.kept = folder, 0
        self.dies_after = 0

    def keep(self, value: Any, progress: dict[str, Any] | None) -> None:
        del progress
        self.kept += 1
        shutil.rmtree(self._folder / "kept", ignore_errors=True)
        shutil.copytree(value, self._folder / "kept")
        if self.kept == self.dies_after:
            raise Killed

    def restore(self) -> Restored | None:
        if not (self._folder / "kept").exists():
            return None
        again = self._folder / f"of-the-run-{self.kept}"
        shutil.rmtree(again, ignore_errors=True)
        shutil.copytree(self._folder / "kept", again)
        return Restored(value=again, progress=None)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def _net(keras: Any, width: int = 4, optimizer: Any = None) -> Any:
    keras.utils.set_random_seed(7)
    layers = [keras.layers.Dense(width, "tanh"), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
    net = keras.Sequential([keras.Input((3,)), *layers])
    net.compile(optimizer or keras.optimizers.Adam(0.01), "mse")
    return net


def _fit(net: Any, run: skipper.Run, **more: Any) -> Any:
    given = {"epochs": EPOCHS, "batch_size": 16, "shuffle": False, "verbose": 0} | more
    return net.fit(X, Y, callbacks=[skipper_tensorflow.Checkpoints(run)], **given)


def _state(net: Any) -> list[Any]:
    return [each.numpy() for each in (*net.variables, *net.optimizer.variables)]


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "RMSprop", "AdamW with a schedule"])
def test_a_run_that_goes_on_ends_as_one_that_nothing_disturbed(
    keras: Any, shelf: Shelf, tmp_path: Path, optimizer: str
) -> None:
    def made() -> Any:
        if optimizer == "AdamW with a schedule":
            schedule = keras.optimizers.schedules.CosineDecay(0.01, 4 * EPOCHS)
            return _net(keras, optimizer=keras.optimizers.AdamW(schedule, 0.1))
        return _net(keras, optimizer=getattr(keras.optimizers, optimizer)(0.01))

    whole = made()
    _fit(whole, skipper.Run())
    shelf.dies_after = 2
    with pytest.raises(Killed):
        _fit(made(), skipper.Run(checkpoints=shelf))
    shelf.dies_after = 4
    with pytest.raises(Killed):
        _fit(made(), skipper.Run(checkpoints=shelf))
    again = made()
    history = _fit(again, skipper.Run(checkpoints=shelf))
    assert history.epoch == [4, 5]
    for mine, theirs in zip(_state(again), _state(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_every_so_many_epochs_are_kept(keras: Any, shelf: Shelf) -> None:
    run = skipper.Run(checkpoints=shelf)
    callback = skipper_tensorflow.Checkpoints(run, every=4)
    _net(keras).fit(X, Y, epochs=EPOCHS, callbacks=[callback], verbose=0)
    assert shelf.kept == 1
    assert _fit(_net(keras), skipper.Run(checkpoints=shelf)).epoch == [4, 5]


def test_an_epoch_that_was_cut_short_is_not_kept(
    keras: Any, shelf: Shelf, kept: KeptEvents
) -> None:
    kept.cancel_after = 0
    run = skipper.Run(kept, checkpoints=shelf)
    stop, keep = skipper_tensorflow.EpochProgress(run), skipper_tensorflow.Checkpoints(run)
    _net(keras).fit(X, Y, epochs=3, batch_size=1, callbacks=[stop, keep], verbose=0)
    assert shelf.kept == 0


def test_a_model_that_is_fitted_once_more_begins_at_its_first_epoch(
    keras: Any, shelf: Shelf
) -> None:
    shelf.dies_after = 2
    with pytest.raises(Killed):
        _fit(_net(keras), skipper.Run(checkpoints=shelf))
    net = _net(keras)
    _fit(net, skipper.Run(checkpoints=shelf))
    assert net.fit(X, Y, epochs=2, verbose=0).epoch == [0, 1]


def _of_another_width(folder: Path, keras: Any) -> None:
    other = _net(keras, width=9)
    other.optimizer.build(other.trainable_variables)
    skipper_tensorflow._write_state(other, 2, folder)


def _of_another_depth(folder: Path, keras: Any) -> None:
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    other.compile("sgd", "mse")
    skipper_tensorflow._write_state(other, 2, folder)


def _truncated(folder: Path, keras: Any) -> None:
    file = folder / "state.npz"
    file.write_bytes(file.read_bytes()[:1000])


def _without_a_state(folder: Path, keras: Any) -> None:
    (folder / "state.npz").rename(folder / "something.else")


@pytest.mark.parametrize(
    "spoil", [_of_another_width, _of_another_depth, _truncated, _without_a_state]
)
def test_what_does_not_fit_the_model_any_more_is_told_and_changes_nothing(
    keras: Any, shelf: Shelf, tmp_path: Path, kept: KeptEvents, spoil: Any
) -> None:
    whole = _net(keras)
    _fit(whole, skipper.Run())
    shelf.dies_after = 2
    with pytest.raises(Killed):
        _fit(_net(keras), skipper.Run(checkpoints=shelf))
    spoil(tmp_path / "kept", keras)
    again = _net(keras)
    history = _fit(again, skipper.Run(kept, checkpoints=shelf))
    assert history.epoch == [*range(EPOCHS)]
    (line,) = (each["data"]["text"] for each in kept.events if each["type"] == "log")
    assert line.startswith("the checkpoint does not fit the model: ")
    for mine, theirs in zip(_state(again), _state(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_what_is_no_checkpoint_of_a_model_is_left_out(keras: Any, kept: KeptEvents) -> None:
    class Other:
        def keep(self, value: Any, progress: dict[str, Any] | None) -> None: ...

        def restore(self) -> Restored:
            return Restored(value={"round": 3}, progress=None)

    history = _fit(_net(keras), skipper.Run(kept, checkpoints=Other()))
    assert history.epoch == [*range(EPOCHS)]
    assert "does not fit the model" in json.dumps(kept.events)


def test_types_that_numpy_does_not_have_come_back(keras: Any, shelf: Shelf) -> None:
    def made() -> Any:
        keras.utils.set_random_seed(7)
        net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, dtype="bfloat16")])
        net.compile("sgd", "mse")
        return net

    whole, again = made(), made()
    _fit(whole, skipper.Run(), epochs=3)
    shelf.dies_after = 2
    with pytest.raises(Killed):
        _fit(made(), skipper.Run(checkpoints=shelf), epochs=3)
    assert _fit(again, skipper.Run(checkpoints=shelf), epochs=3).epoch == [2]
    for mine, theirs in zip(_state(again), _state(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_in_a_call_in_place_nothing_is_kept(keras: Any) -> None:
    assert _fit(_net(keras), skipper.Run(), epochs=2).epoch == [0, 1]
