"""Arrays, tables, boosters and graphs as models, and what all formats have in common."""

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skipper.errors import FormatError
from skipper.function.model import Model
from skipper.instance.models import LoadedModels
from tests.security.mutations.models import FORMATS, graph

Stored = Callable[[Any], Any]
X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
NAMES = np.array(["no", "yes"])[Y]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries', about such small tables
        yield


def saved(name: str, folder: Path) -> Any:
    """A model of this format in ``folder``; its plugin."""
    module, _, values = FORMATS[name]
    plugin = importlib.import_module(module)
    assert plugin.skipper_save_model(value=next(values()), folder=folder) == name
    return plugin


# --- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("how", ["truncated", "missing", "empty", "others"])
def test_a_damaged_model_is_told_in_a_sentence(name: str, how: str, tmp_path: Path) -> None:
    plugin = saved(name, tmp_path)
    file = tmp_path / FORMATS[name][1]
    data = file.read_bytes()
    file.unlink()
    if how != "missing":
        file.write_bytes({"truncated": data[: len(data) // 2], "others": b"\0" * 99}.get(how, b""))

    with pytest.raises(FormatError, match=r"cannot be loaded|is not loaded"):
        plugin.skipper_load_model(format=name, folder=tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_of_another_format_is_left_to_other_plugins(name: str, tmp_path: Path) -> None:
    plugin = importlib.import_module(FORMATS[name][0])

    assert plugin.skipper_save_model(value={"a": 1}, folder=tmp_path) is None
    assert plugin.skipper_load_model(format="other", folder=tmp_path) is None
    assert plugin.skipper_model_state(format="other", model=1) is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_library_that_is_gone_is_named_with_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = saved(name, tmp_path)
    for module in plugin.FORMAT.libraries:
        monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(
        FormatError, match=rf"{name!r} needs .*skipper-runtime\[{plugin.FORMAT.extra}\]"
    ):
        plugin.skipper_load_model(format=name, folder=tmp_path)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "onnx"])
def test_the_state_tells_whether_a_model_has_been_changed(name: str, tmp_path: Path) -> None:
    plugin = saved(name, tmp_path)
    first, again = (plugin.skipper_load_model(format=name, folder=tmp_path) for _ in range(2))
    state = plugin.skipper_model_state(format=name, model=first)

    assert state is not None
    assert state == plugin.skipper_model_state(format=name, model=again)


# --- arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        X,
        np.asfortranarray(X),
        X[::2, ::-1],
        np.array(["a", "long text"]),
        np.zeros((0, 3)),
        np.array(5.0),
        np.array([np.nan, np.inf]),
        np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2026-01-01"], dtype="M8[D]"),
    ],
)
def test_an_array_comes_back_as_it_was_and_nobody_can_write_to_it(
    array: Any, stored: Stored
) -> None:
    again = stored(array)

    np.testing.assert_array_equal(again, array)
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.array([{}, 1], dtype=object), "of Python objects"),
        (np.zeros(2, dtype=[("a", "O")]), "of Python objects"),
        (np.ma.masked_equal([1, 2], 2), "has a mask"),
    ],
)
def test_an_array_that_only_pickle_could_keep_is_refused(
    array: Any, told: str, loaded_models: LoadedModels
) -> None:
    with pytest.raises(FormatError, match=told):
        loaded_models.save(Model("sample", array))


# --- tables --------------------------------------------------------------------------------------

TABLE = pd.DataFrame(
    {
        "n": [1, 2],
        "x": [0.5, np.nan],
        "text": ["a", None],
        "kind": pd.Categorical(["b", "a"], ["b", "a"], ordered=True),
        "at": pd.to_datetime(["2026-01-01", None], utc=True),
        "some": pd.array([1, None], dtype="Int8"),
    },
    index=pd.Index(["r", "s"], name="row"),
)
TABLES = [
    TABLE,
    TABLE.iloc[:0].drop(columns="kind"),
    pd.DataFrame({1: [2.0]}),
    pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])),
    TABLE["text"],
    TABLE["kind"],
    pd.Series([1.5, 2.5]),
    pd.Series([1], name=3),
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: type(table).__name__)
def test_a_table_comes_back_with_its_index_and_types(table: Any, stored: Stored) -> None:
    again = stored(table)

    same = pd.testing.assert_frame_equal if table.ndim == 2 else pd.testing.assert_series_equal
    same(again, table)
    assert again.attrs == {}


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": [1, "b"]}),
        pd.DataFrame({"a": [object()]}),
        pd.DataFrame({"a": [1 + 2j]}),
        pd.DataFrame({"a": [[1], [2, 3]]}),
        pd.Series([1], name=("a", object())),
    ],
)
def test_a_table_that_would_come_back_as_another_is_refused(
    table: Any, loaded_models: LoadedModels
) -> None:
    with pytest.raises(FormatError, match="Parquet"):
        loaded_models.save(Model("sample", table))


# --- boosters ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def xgboost() -> Any:
    return pytest.importorskip("xgboost", reason="XGBoost is not installed")


@pytest.fixture(scope="module")
def lightgbm() -> Any:
    return pytest.importorskip("lightgbm", reason="LightGBM is not installed")


@pytest.mark.parametrize(
    "name", ["XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor"]
)
def test_an_estimator_of_xgboost_comes_back_with_its_parameters(
    name: str, xgboost: Any, stored: Stored
) -> None:
    model = getattr(xgboost, name)(n_estimators=3, missing=-9.0, random_state=np.int64(3)).fit(X, Y)

    again = stored(model)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert type(again) is type(model)
    assert str(again.get_params()) == str(model.get_params()).replace("np.int64(3)", "3")


def test_early_stopping_and_ranking_are_kept(xgboost: Any, stored: Stored) -> None:
    stopped = xgboost.XGBClassifier(n_estimators=30, early_stopping_rounds=2)
    stopped.fit(X, Y, eval_set=[(X, Y)], verbose=False)
    ranker = xgboost.XGBRanker(n_estimators=2).fit(X, Y, qid=np.repeat([0, 1], 30))

    assert stored(stopped).best_iteration == stopped.best_iteration
    np.testing.assert_array_equal(stored(ranker).predict(X), ranker.predict(X))


def test_a_booster_of_xgboost_comes_back(xgboost: Any, stored: Stored) -> None:
    rows = xgboost.DMatrix(X, Y, feature_names=["a", "b", "c"])
    model = xgboost.train({"max_depth": 2}, rows, 3)

    again = stored(model)
    np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
    assert again.feature_names == ["a", "b", "c"]


OWN = """
import numpy as np, xgboost

def squared(y, x):
    return x - y, np.ones_like(y)

class Boosted(xgboost.XGBRegressor):
    pass
"""
TRAINS = "import skipper\nfrom functions import _own\nskipper.Model('m', _own)\n"


def test_an_objective_and_a_class_of_the_project_are_found_again(
    xgboost: Any, stored: Stored, project: Callable[..., None]
) -> None:
    project({"functions/_own.py": OWN, "functions/train.py": TRAINS}, "functions/train.py")
    own = importlib.import_module("functions._own")
    model = own.Boosted(n_estimators=2, objective=own.squared).fit(X, X[:, 0])

    again = stored(model)
    assert type(again) is own.Boosted
    assert again.objective is own.squared
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_an_objective_of_nobody_is_refused(xgboost: Any, loaded_models: LoadedModels) -> None:
    def objective(y: Any, x: Any) -> Any:
        return x - y, np.ones_like(y)

    model = xgboost.XGBRegressor(n_estimators=2, objective=objective).fit(X, X[:, 0])
    with pytest.raises(FormatError, match="is of no file of this project"):
        loaded_models.save(Model("sample", model))


def test_a_model_that_has_learned_nothing_is_refused(
    xgboost: Any, loaded_models: LoadedModels
) -> None:
    with pytest.raises(FormatError, match="XGBoost cannot save it: need to call fit"):
        loaded_models.save(Model("sample", xgboost.XGBClassifier()))


def test_a_booster_of_lightgbm_comes_back(lightgbm: Any, stored: Stored) -> None:
    model = lightgbm.train({"verbose": -1}, lightgbm.Dataset(X, Y), 3)

    np.testing.assert_array_equal(stored(model).predict(X), model.predict(X))


@pytest.mark.parametrize("name", ["LGBMClassifier", "LGBMRegressor"])
def test_an_estimator_of_lightgbm_comes_back(name: str, lightgbm: Any, stored: Stored) -> None:
    model = getattr(lightgbm, name)(n_estimators=3, verbose=-1, min_child_samples=2)
    model.fit(X, NAMES if "Class" in name else Y)

    again = stored(model)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.get_params() == model.get_params()


@pytest.mark.parametrize("of", ["xgboost", "lightgbm"])
def test_both_stand_in_pipelines_of_scikit_learn(
    of: str, xgboost: Any, lightgbm: Any, stored: Stored
) -> None:
    last = xgboost.XGBClassifier(n_estimators=2)
    if of == "lightgbm":
        last = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1)
    model = make_pipeline(StandardScaler(), last).fit(X, Y)

    np.testing.assert_array_equal(stored(model).predict_proba(X), model.predict_proba(X))


# --- graphs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnx() -> Any:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return pytest.importorskip("onnx", reason="ONNX is not installed")


def test_a_graph_is_served_by_onnxruntime(onnx: Any, stored: Stored) -> None:
    del onnx
    session = stored(graph())

    (answer,) = session.run(None, {"x": np.ones((2, 3), "float32")})
    np.testing.assert_array_equal(answer, np.full((2, 3), 2.0))


def test_a_session_computes_on_the_instances_share_of_the_cores(onnx: Any, stored: Stored) -> None:
    del onnx
    plugin = importlib.import_module("skipper_onnx")
    plugin.skipper_instance_started(threads=3)
    try:
        assert stored(graph()).get_session_options().intra_op_num_threads == 3
    finally:
        plugin.skipper_instance_started(threads=1)


def test_a_graph_that_cannot_be_served_is_refused(onnx: Any, loaded_models: LoadedModels) -> None:
    del onnx
    broken = graph()
    broken.graph.node[0].op_type = "NoSuchOperator"

    with pytest.raises(FormatError, match=r"onnxruntime cannot serve the model: .*NoSuchOperator"):
        loaded_models.save(Model("sample", broken))


@pytest.mark.parametrize("place", ["../secret.bin", "/etc/passwd", "inner/../../secret.bin"])
def test_weights_outside_of_the_folder_are_not_read(onnx: Any, place: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(100))
    folder = tmp_path / "saved"
    folder.mkdir()
    model = graph()
    one = model.graph.initializer[0]
    one.ClearField("raw_data")
    one.data_location = onnx.TensorProto.EXTERNAL
    one.external_data.add(key="location", value=place)
    (folder / "model.onnx").write_bytes(model.SerializeToString())

    plugin = importlib.import_module("skipper_onnx")
    with pytest.raises(FormatError, match="the onnx model cannot be loaded"):
        plugin.skipper_load_model(format="onnx", folder=folder)
