"""What the tensorflow plugin does without TensorFlow."""

import os
import sys
from pathlib import Path

import pytest

import skipper_tensorflow

_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_FORCE_GPU_ALLOW_GROWTH")


@pytest.mark.parametrize("name", ["keras", "tensorflow", "keras.layers", "tensorflow.data"])
def test_a_file_that_uses_keras_or_tensorflow_gets_both_in_its_template(name: str) -> None:
    found = skipper_tensorflow.skipper_libraries(imports=frozenset({name, "numpy"}))

    assert set(found) == {"keras", "tensorflow"}


@pytest.mark.parametrize("name", ["numpy", "kerastuner", "tensorflow_probability"])
def test_other_files_get_neither(name: str) -> None:
    assert not skipper_tensorflow.skipper_libraries(imports=frozenset({name}))


def test_their_environment_is_set_before_they_are_imported() -> None:
    found = skipper_tensorflow.skipper_environment(imports=frozenset({"keras.layers"}))

    assert found["KERAS_BACKEND"] == "tensorflow"
    assert skipper_tensorflow.skipper_environment(imports=frozenset({"numpy"})) == {}


def test_an_instance_without_tensorflow_has_its_share_set_and_imports_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in _VARIABLES:
        monkeypatch.setenv(name, "")
    for name in ("keras", "tensorflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    skipper_tensorflow.skipper_instance_started(threads=3)

    assert [os.environ[name] for name in _VARIABLES] == ["3", "3", "true"]
    assert not {"keras", "tensorflow"} & sys.modules.keys()


def test_what_is_no_keras_model_is_left_to_other_plugins(tmp_path: Path) -> None:
    assert skipper_tensorflow.skipper_save_model(value={"a": 1}, folder=tmp_path) is None
    assert skipper_tensorflow.skipper_load_model(format="skops", folder=tmp_path) is None
    assert list(tmp_path.iterdir()) == []
