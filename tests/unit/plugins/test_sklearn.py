"""Every estimator of scikit-learn as a model, and what of a file is never made."""

import importlib
import json
import operator
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils import all_estimators

from skipper.errors import FormatError
from skipper.function.model import Model
from skipper.instance.jobs import ModelRef
from skipper.instance.models import LoadedModels
from skipper_sklearn import saving
from skipper_sklearn.trust import Trust

Stored = Callable[[Any], Any]
RNG = np.random.default_rng(0)
X = np.abs(RNG.normal(size=(40, 3)))
Y = (X[:, 0] > X[:, 1]).astype(int)
TEXTS = ["a fine day", "another day of rain", "fine rain", "a day"] * 10

PARTS = {
    "ClassifierChain": lambda cls: cls(LogisticRegression()),
    "ColumnTransformer": lambda cls: cls([("scale", StandardScaler(), [0, 1])]),
    "FeatureUnion": lambda cls: cls([("scale", StandardScaler())]),
    "FixedThresholdClassifier": lambda cls: cls(LogisticRegression()),
    "GaussianRandomProjection": lambda cls: cls(2),
    "SparseRandomProjection": lambda cls: cls(2),
    "SpectralBiclustering": lambda cls: cls(2),
    "TSNE": lambda cls: cls(max_iter=250, perplexity=5),
    "FrozenEstimator": lambda cls: cls(LogisticRegression().fit(X, Y)),
    "GridSearchCV": lambda cls: cls(Ridge(), {"alpha": [0.1, 1.0]}),
    "HalvingGridSearchCV": lambda cls: cls(Ridge(), {"alpha": [0.1, 1.0]}),
    "HalvingRandomSearchCV": lambda cls: cls(Ridge(), {"alpha": [0.1, 1.0]}),
    "MultiOutputClassifier": lambda cls: cls(LogisticRegression()),
    "MultiOutputRegressor": lambda cls: cls(Ridge()),
    "OneVsOneClassifier": lambda cls: cls(LogisticRegression()),
    "OneVsRestClassifier": lambda cls: cls(LogisticRegression()),
    "OutputCodeClassifier": lambda cls: cls(LogisticRegression()),
    "Pipeline": lambda cls: cls([("scale", StandardScaler()), ("fit", LogisticRegression())]),
    "RFE": lambda cls: cls(LogisticRegression()),
    "RFECV": lambda cls: cls(LogisticRegression()),
    "RandomizedSearchCV": lambda cls: cls(Ridge(), {"alpha": [0.1, 1.0]}, n_iter=2),
    "RegressorChain": lambda cls: cls(Ridge()),
    "SelectFromModel": lambda cls: cls(LogisticRegression()),
    "SelfTrainingClassifier": lambda cls: cls(LogisticRegression()),
    "SequentialFeatureSelector": lambda cls: cls(LogisticRegression()),
    "SparseCoder": lambda cls: cls(np.eye(3)),
    "StackingClassifier": lambda cls: cls([("one", LogisticRegression())]),
    "StackingRegressor": lambda cls: cls([("one", Ridge())]),
    "TunedThresholdClassifierCV": lambda cls: cls(LogisticRegression()),
    "VotingClassifier": lambda cls: cls([("one", LogisticRegression())]),
    "VotingRegressor": lambda cls: cls([("one", Ridge())]),
}
"""How those are made that need something; the others are made with nothing."""
INPUTS = {
    "CCA": (X, X[:, :2]),
    "GammaRegressor": (X, X[:, 0] + 1),
    "MultiOutputRegressor": (X, X[:, :2]),
    "PLSCanonical": (X, X[:, :2]),
    "PLSSVD": (X, X[:, :2]),
    "SpectralBiclustering": (X + 1, None),
    "ClassifierChain": (X, np.stack([Y, 1 - Y], 1)),
    "CountVectorizer": (TEXTS, None),
    "DictVectorizer": ([{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}], None),
    "FeatureHasher": ([{"a": 1.0}, {"b": 2.0}], None),
    "HashingVectorizer": (TEXTS, None),
    "IsotonicRegression": (X[:, 0], Y),
    "KernelCenterer": (X @ X.T, None),
    "LabelBinarizer": (Y, None),
    "LabelEncoder": (Y, None),
    "MultiLabelBinarizer": ([["a", "b"], ["b"]], None),
    "MultiOutputClassifier": (X, np.stack([Y, 1 - Y], 1)),
    "MultiTaskElasticNet": (X, X[:, :2]),
    "MultiTaskElasticNetCV": (X, X[:, :2]),
    "MultiTaskLasso": (X, X[:, :2]),
    "MultiTaskLassoCV": (X, X[:, :2]),
    "PatchExtractor": (RNG.normal(size=(2, 12, 12)), None),
    "RegressorChain": (X, np.stack([Y, 1 - Y], 1)),
    "TfidfTransformer": (X, None),
    "TfidfVectorizer": (TEXTS, None),
    "TargetEncoder": (Y[:, None], Y),
}
REFUSED = {"Birch"}
"""skops refuses it, because the leaves of its tree hold each other in a circle."""
ROUNDED = {"LabelPropagation", "LabelSpreading"}
"""They learn a view, whose rows do not lie one after the other; it is saved as an array whose rows
do (pickle would, too), and BLAS sums that in another order: the last bit may differ."""
QUESTIONS = ("predict", "predict_proba", "decision_function", "transform", "kneighbors")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, about such small tables
        yield


def fitted(name: str, cls: Any) -> tuple[Any, Any]:
    """An estimator that has learned, and what it can be asked about."""
    model = PARTS.get(name, lambda cls: cls())(cls)
    params = model.get_params()
    if "random_state" in params:
        model.set_params(random_state=0)
    small = {"max_iter": 20, "n_estimators": 3, "n_components": 2, "cv": 2, "n_init": 1}
    for key, value in small.items():
        if name not in PARTS and type(params.get(key)) is int and params[key] > value:
            model.set_params(**{key: value})
    x, y = INPUTS.get(name, (X, Y))
    return (model.fit(x) if y is None else model.fit(x, y)), x


def answers(model: Any, x: Any) -> dict[str, Any]:
    found = {}
    for question in QUESTIONS:
        try:
            answer = getattr(model, question)(x)
        except (AttributeError, NotImplementedError):
            continue
        found[question] = answer.toarray() if hasattr(answer, "toarray") else answer
    return found


def assert_same(model: Any, other: Any, x: Any) -> None:
    wanted, found = answers(model, x), answers(other, x)
    assert wanted.keys() == found.keys()
    for question, answer in wanted.items():
        if type(model).__name__ in ROUNDED:
            np.testing.assert_allclose(found[question], answer, rtol=1e-13, err_msg=question)
        else:
            np.testing.assert_array_equal(found[question], answer, question)


@pytest.mark.parametrize(
    ("name", "cls"),
    [item for item in all_estimators() if item[0] not in REFUSED],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_every_estimator_answers_as_it_did_skops_498(name: str, cls: Any, stored: Stored) -> None:
    model, x = fitted(name, cls)

    assert_same(model, stored(model), x)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_skops_cannot_write_is_refused_with_the_reason(
    name: str, loaded_models: LoadedModels
) -> None:
    model, _ = fitted(name, dict(all_estimators())[name])

    with pytest.raises(FormatError, match=f"skops cannot save this sklearn.*{name}"):
        loaded_models.save(Model("sample", model))


COMPOSED = [
    make_pipeline(StandardScaler(), KNeighborsClassifier(3, algorithm="kd_tree")),
    make_pipeline(StandardScaler(), KNeighborsClassifier(3, algorithm="ball_tree")),
    make_pipeline(StandardScaler(with_mean=False), KNeighborsClassifier(3, metric="cosine")),
    make_pipeline(
        ColumnTransformer(
            [
                ("scale", StandardScaler(), [0, 1]),
                ("kinds", OneHotEncoder(handle_unknown="ignore"), slice(2, 3)),
            ],
            remainder="passthrough",
        ),
        LogisticRegression(),
    ),
    GridSearchCV(
        Pipeline([("scale", StandardScaler()), ("fit", LogisticRegression())]),
        {"fit__C": [0.1, 1.0], "scale": [StandardScaler(), "passthrough"]},
        scoring="roc_auc",
        cv=3,
    ),
    RandomizedSearchCV(RandomForestClassifier(3), {"max_depth": [1, 2, 3]}, n_iter=2, cv=2),
    CalibratedClassifierCV(LogisticRegression(), cv=2),
    CalibratedClassifierCV(FrozenEstimator(LogisticRegression().fit(X, Y)), method="isotonic"),
    StackingClassifier([("near", KNeighborsClassifier()), ("line", LogisticRegression())], cv=2),
    make_pipeline(
        FeatureUnion([("log", FunctionTransformer(np.log1p)), ("scale", StandardScaler())]),
        LogisticRegression(),
    ),
    make_pipeline(FunctionTransformer(partial(np.clip, a_min=0.1, a_max=1.0)), Ridge()),
    make_pipeline(FunctionTransformer(), NearestNeighbors(n_neighbors=2)),
]


@pytest.mark.parametrize("model", COMPOSED, ids=lambda model: str(model).split("(", 1)[0])
def test_what_is_composed_of_them_answers_as_it_did(model: Any, stored: Stored) -> None:
    model = clone(model).fit(X, Y)

    assert_same(model, stored(model), X)


def test_a_model_of_a_table_keeps_its_columns_names(stored: Stored) -> None:
    import pandas as pd

    frame = pd.DataFrame({"size": X[:, 0], "kind": ["a", "b"] * 20})
    columns = ColumnTransformer(
        [("n", StandardScaler(), ["size"]), ("k", OneHotEncoder(), ["kind"])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame, Y)

    again = stored(model)
    assert_same(model, again, frame)
    assert again.feature_names_in_.tolist() == ["size", "kind"]


def test_a_model_of_nan_is_a_model_like_any_other(stored: Stored) -> None:
    model = Ridge().fit(X, Y)
    model.coef_ = model.coef_ * np.nan

    assert np.isnan(stored(model).predict(X)).all()


OWN = """
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

class Ratio(TransformerMixin, BaseEstimator):
    def fit(self, x, y=None):
        self.total_ = x.sum(axis=0)
        return self

    def transform(self, x):
        return x / self.total_

def halved(x, by=2):
    return x / by
"""
TRAINS = "import skipper\nfrom functions import _own\nskipper.Model('iris', _own)\n"
SERVES = "import skipper\nskipper.Loaded('iris')\n"


@pytest.mark.parametrize("of", ["functions/train.py", "functions/serve.py"])
def test_classes_and_functions_of_the_project_are_loaded_from_it(
    of: str, project: Callable[..., None], stored: Stored
) -> None:
    files = {
        "functions/_own.py": OWN,
        "functions/train.py": TRAINS,
        "functions/serve.py": SERVES,
    }
    project(files, of)
    own = importlib.import_module("functions._own")
    model = make_pipeline(
        own.Ratio(),
        FunctionTransformer(own.halved),
        FunctionTransformer(partial(own.halved, by=3)),
        Ridge(),
    ).fit(X, Y)

    again = stored(model)
    assert_same(model, again, X)
    assert type(again[0]) is own.Ratio


def test_a_class_that_is_gone_from_the_project_is_told(
    project: Callable[..., None], loaded_models: LoadedModels
) -> None:
    project({"functions/_own.py": OWN, "functions/train.py": TRAINS}, "functions/train.py")
    own = importlib.import_module("functions._own")
    saved = loaded_models.save(Model("iris", make_pipeline(own.Ratio(), Ridge()).fit(X, Y)))
    del own.Ratio

    gone = r"functions\._own\.Ratio, which the model names, is gone from the project; put it back"
    with pytest.raises(FormatError, match=gone):
        loaded_models.put(ModelRef(name="iris", version=1, **saved))


touched: list[object] = []


class Foreign(TransformerMixin, BaseEstimator):  # type: ignore[misc] # it carries no types
    """Somebody else's, which does something when it is loaded."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        touched.append(state)

    def fit(self, x: Any, y: Any = None) -> Any:
        return self

    def transform(self, x: Any) -> Any:
        return x


def touch(*given: object) -> object:
    touched.append(given)
    return given


@pytest.mark.parametrize(
    "part",
    [
        Foreign(),
        FunctionTransformer(touch),
        FunctionTransformer(lambda x: x),
        FunctionTransformer(partial(touch, 1)),
        FunctionTransformer(np.save),
        FunctionTransformer(operator.methodcaller("tofile", "x")),
    ],
)
def test_a_part_that_is_nobodys_is_refused_when_it_is_saved(
    part: Any, loaded_models: LoadedModels
) -> None:
    with pytest.raises(FormatError, match="the scikit-learn model is not saved: "):
        loaded_models.save(Model("sample", make_pipeline(part, Ridge())))


# --- forged files: each would run something, were its names all that is looked at -----------------


def _node(loader: str, module: str, name: str, **more: Any) -> dict[str, Any]:
    return {"__loader__": loader, "__module__": module, "__class__": name, **more}


def _json(value: object) -> dict[str, Any]:
    return _node("JsonNode", "builtins", "str", content=json.dumps(value))


def _list(*items: Any, loader: str = "ListNode", name: str = "list") -> dict[str, Any]:
    return _node(loader, "builtins", name, content=[*items])


_PATH = _list(_json("forged"), loader="TupleNode", name="tuple")
_STATE = _node("DictNode", "builtins", "dict", key_types=_list(), content={})
FORGED = {
    "a constructor that writes a file": _node(
        "ConstructorFromReduceNode", "numpy", "memmap", content=_PATH
    ),
    "a constructor that is a function": _node(
        "ConstructorFromReduceNode", "numpy", "fromfile", content=_PATH
    ),
    "an estimator that is called": _node(
        "ConstructorFromReduceNode", "sklearn.linear_model._ridge", "Ridge", content=_PATH
    ),
    "a module as a class": _node("ObjectNode", "sklearn.base", "os", content=_STATE),
    "a class that the module has imported": _node(
        "ObjectNode", "sklearn.base", "defaultdict", content=_STATE
    ),
    "a distribution, whose state is run": _node(
        "ObjectNode", "scipy.stats._continuous_distns", "norm_gen", content=_STATE
    ),
    "a class of the tests": _node(
        "ObjectNode", "sklearn.utils._testing", "MinimalClassifier", content=_STATE
    ),
    "a function that reads files": _node("FunctionNode", "sklearn.datasets._base", "load_files"),
    "a function that unpickles": _node("FunctionNode", "numpy", "load"),
    "a function that writes": _node("FunctionNode", "numpy", "savetxt"),
    "a function of the tests": _node("FunctionNode", "numpy.testing", "runstring"),
    "a function of the system": _node("FunctionNode", "os", "system"),
    "a function that is built in": _node("TypeNode", "builtins", "eval"),
    "a function of the system as a type": _node("TypeNode", "posix", "system"),
    "a key's type that is a function": _node(
        "DictNode",
        "builtins",
        "dict",
        key_types=_list(_node("FunctionNode", "sklearn.utils.validation", "check_array")),
        content={"a": _json(1)},
    ),
    "a list that is something else": _node("ListNode", "numpy", "memmap", content=[]),
    "an array that is something else": _node(
        "NdArrayNode", "numpy", "memmap", type="numpy", file="schema.json"
    ),
    "a loss that is something else": _node(
        "LossNode", "sklearn.linear_model._ridge", "os", content=_STATE
    ),
    "a method caller": _node("OperatorFuncNode", "operator", "methodcaller", attrs=_PATH),
    "a private method": _node(
        "MethodNode",
        "sklearn.linear_model._ridge",
        "Ridge",
        content={"func": "__reduce__", "obj": _json(1)},
    ),
    "a loader that nobody knows": _node("RunNode", "builtins", "list", content=[]),
    "an import that runs": _node("ObjectNode", "sklearn.__main__", "Ridge", content=_STATE),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_part_is_refused_before_anything_is_made(name: str, tmp_path: Path) -> None:
    whole = {**_list(FORGED[name]), "protocol": 2, "_skops_version": skops.__version__}
    with zipfile.ZipFile(tmp_path / "model.skops", "w") as archive:
        archive.writestr("schema.json", json.dumps(whole))

    with pytest.raises(FormatError, match="the scikit-learn model is not loaded: "):
        saving.load(tmp_path)
    assert not Path("forged").exists()


def test_a_file_with_a_foreign_type_is_refused_before_anything_of_it_is_made(
    tmp_path: Path,
) -> None:
    skops.io.dump({"a": Foreign()}, tmp_path / "model.skops")

    with pytest.raises(FormatError, match="Foreign, which the model names, is of no file"):
        saving.load(tmp_path)
    assert touched == []


@pytest.mark.parametrize("protocol", [0, 1, None, True, "2"])
def test_an_old_protocol_whose_nodes_are_others_is_refused(tmp_path: Path, protocol: Any) -> None:
    with zipfile.ZipFile(tmp_path / "model.skops", "w") as archive:
        archive.writestr("schema.json", json.dumps({**_json(1), "protocol": protocol}))

    with pytest.raises(FormatError, match="protocol"):
        saving.load(tmp_path)


def test_every_loader_that_skops_has_is_known_or_refused() -> None:
    from skops.io._audit import NODE_TYPE_MAPPING

    loaders = {loader for loader, protocol in NODE_TYPE_MAPPING if protocol >= 2}
    trust = Trust()
    trust.look_at([_node(loader, "nobody", "nothing") for loader in loaders | {"NewNode"}])

    assert any("NewNode" in told for told in trust.refused)
