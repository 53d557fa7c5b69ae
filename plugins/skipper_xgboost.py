"""XGBoost for Skipper: boosters and the estimators around them, in XGBoost's own format.

Importing this module does not import XGBoost: every instance loads it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import skipper

FORMAT = skipper.Format(
    name="xgboost", libraries={"xgboost": "xgboost"}, extra="xgboost", is_fragile=True
)
_FILE, _ESTIMATOR = "model.ubj", "estimator.json"
_THEIRS = "xgboost"


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    """Save a ``Booster`` or an ``XGBModel`` as UBJSON; of the latter the parameters, too."""
    xgboost = sys.modules.get("xgboost")
    if xgboost is None or not isinstance(value, xgboost.Booster | xgboost.XGBModel):
        return None
    with FORMAT.saving(folder):
        try:
            value.save_model(folder / _FILE)
        except Exception as error:
            raise skipper.FormatError(f"XGBoost cannot save it: {error}") from error
        if isinstance(value, xgboost.XGBModel):
            told = {"class": _class_name(value), "params": _params(value)}
            (folder / _ESTIMATOR).write_text(json.dumps(told), encoding="utf-8")
    return FORMAT.name


def _class_name(estimator: Any) -> list[str]:
    """A class of XGBoost's, or of the project. Raises FormatError for any other."""
    kind = type(estimator)
    if kind.__module__.partition(".")[0] == _THEIRS:
        return [_THEIRS, kind.__name__]
    skipper.from_project(kind.__module__, kind.__qualname__)
    return [kind.__module__, kind.__qualname__]


def _params(estimator: Any) -> dict[str, Any]:
    """The parameters as JSON; a function of the project by its name.

    Raises FormatError for what is neither, as a callback that is no function.
    """
    found = {}
    for key, value in estimator.get_params(deep=False).items():
        if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
            found[key] = value.item()
        elif callable(value):
            name = [value.__module__, getattr(value, "__qualname__", type(value).__qualname__)]
            skipper.from_project(*name)
            found[key] = {"from_project": name}
        else:
            found[key] = value
    try:
        json.dumps(found)
    except TypeError as error:
        raise skipper.FormatError(
            f"a parameter of the {type(estimator).__name__} is no plain value: {error}"
        ) from error
    return found


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    """Load what was saved, as the same class with the same parameters."""
    if format != FORMAT.name:
        return None
    with FORMAT.loading(folder):
        import xgboost

        file = folder / _ESTIMATOR
        if not file.exists():
            return xgboost.Booster(model_file=folder / _FILE)
        return _estimator(json.loads(file.read_bytes()), folder / _FILE)


def _estimator(told: dict[str, Any], file: Path) -> Any:
    import xgboost

    module, name = told["class"]
    kind = getattr(xgboost, name) if module == _THEIRS else skipper.from_project(module, name)
    if not (isinstance(kind, type) and issubclass(kind, xgboost.XGBModel)):
        raise skipper.FormatError(f"{module}.{name}, which the model names, is no XGBModel")
    params = {key: _value(value) for key, value in told["params"].items()}
    model = kind(**params)
    model.load_model(file)
    model.set_params(**params)  # some of them are the trees' now
    return model


def _value(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"from_project"}:
        return skipper.from_project(*value["from_project"])
    return value


@skipper.hook
def skipper_model_state(format: str, model: Any) -> bytes | None:  # noqa: A002 - the hook's word
    """A digest of the trees, and of an estimator's parameters."""
    if format != FORMAT.name:
        return None
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    digest = hashlib.sha256(booster.save_raw("ubj"))
    if booster is not model:
        digest.update(repr(sorted(model.get_params(deep=False).items())).encode())
    return digest.digest()
