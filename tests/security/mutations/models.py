"""Saved models of every format, for :mod:`tests.security.mutations.decoders` to attack."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Read = Callable[[bytes], object]
X = np.random.default_rng(0).normal(size=(20, 3))
Y = (X[:, 0] > 0).astype(int)


def _estimators() -> Iterator[Any]:
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    yield make_pipeline(StandardScaler(), Ridge()).fit(X, Y)
    yield KNeighborsClassifier(2).fit(X, Y)


def _arrays() -> Iterator[Any]:
    yield from (np.arange(6.0), np.array(["a", "bc"]), np.zeros((2, 0)))


def _tables() -> Iterator[Any]:
    import pandas as pd

    yield pd.DataFrame({"a": [1, 2], "b": ["x", None]})


def _xgboosts() -> Iterator[Any]:
    import xgboost

    yield xgboost.train({"max_depth": 2}, xgboost.DMatrix(X, Y), 2)


def _lightgbms() -> Iterator[Any]:
    import lightgbm

    options = {"verbose": -1, "min_data_in_leaf": 2}
    yield lightgbm.train(options, lightgbm.Dataset(X, Y), 2)


def graph() -> Any:
    """An ``onnx.ModelProto`` that adds one to an array ``x``."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    one = numpy_helper.from_array(np.ones((1, 3), "float32"), "one")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 3]) for n in "xy")
    added = helper.make_node("Add", ["x", "one"], ["y"])
    whole = helper.make_graph([added], "add", [x], [y], initializer=[one])
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(whole, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return model


def _graphs() -> Iterator[Any]:
    yield graph()


FORMATS: dict[str, tuple[str, str, Callable[[], Iterator[Any]]]] = {
    "skops": ("skipper_sklearn", "model.skops", _estimators),
    "npy": ("skipper_numpy", "model.npy", _arrays),
    "pandas": ("skipper_pandas", "table.parquet", _tables),
    "xgboost": ("skipper_xgboost", "model.ubj", _xgboosts),
    "lightgbm": ("skipper_lightgbm", "model.txt", _lightgbms),
    "onnx": ("skipper_onnx", "model.onnx", _graphs),
}
"""The plugin, the file that is changed, and what is saved."""
FRAGILE = frozenset({"model xgboost", "model lightgbm"})
"""Their libraries end the process over most mutants: what is not as it was saved is refused."""


def samples() -> dict[str, tuple[Read, list[bytes]]]:
    """Each format: what loads a model whose file has this content, and contents that are sound."""
    found = {}
    for name, (_, file, _) in FORMATS.items():
        saved = _saved(name)
        found[f"model {name}"] = (_loading(name, saved[0]), [files[file] for files in saved])
    return found


def _loading(name: str, beside: dict[str, bytes]) -> Read:
    module, file, _ = FORMATS[name]
    plugin = importlib.import_module(module)

    def read(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            for other, content in beside.items():
                Path(folder, other).write_bytes(content)
            Path(folder, file).write_bytes(data)
            return plugin.skipper_load_model(format=name, folder=Path(folder))

    return read


def _saved(name: str) -> list[dict[str, bytes]]:
    """The files of each model."""
    module, _, values = FORMATS[name]
    plugin, found = importlib.import_module(module), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in values():
            with tempfile.TemporaryDirectory() as folder:
                plugin.skipper_save_model(value=value, folder=Path(folder))
                found.append({file.name: file.read_bytes() for file in Path(folder).iterdir()})
    return found
