"""scikit-learn for Skipper: estimators, pipelines and searches as models, by skops.

This module holds the hooks and imports none of the libraries: every instance loads it.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from pathlib import Path
from typing import Any

import skipper

FORMAT = skipper.Format(
    name="skops", libraries={"sklearn": "scikit-learn", "skops": "skops"}, extra="sklearn"
)


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    """Save an estimator, pipeline or search with skops: data, no pickled code."""
    base = sys.modules.get("sklearn.base")
    if base is None or not isinstance(value, base.BaseEstimator):
        return None
    xgboost = sys.modules.get("xgboost")
    if xgboost is not None and isinstance(value, xgboost.XGBModel):
        return None  # by itself; within a pipeline it is a part like any other
    with FORMAT.saving(folder):
        from skipper_sklearn import saving

        saving.save(value, folder)
    return FORMAT.name


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    """Load a scikit-learn model whose parts are all trusted."""
    if format != FORMAT.name:
        return None
    with FORMAT.loading(folder):
        from skipper_sklearn import saving

        return saving.load(folder)


@skipper.hook
def skipper_model_state(format: str, model: Any) -> bytes | None:  # noqa: A002 - the hook's word
    """A digest of the estimator and all that it has learned."""
    if format != FORMAT.name:
        return None
    # Pickled to be hashed, which runs no code of a file; nothing is ever unpickled.
    return hashlib.sha256(pickle.dumps(model, protocol=5)).digest()
