"""Tables for Skipper: any CSV plus a target column becomes a served scikit-learn model.

Registers the functions of :mod:`skipper_tabular.tabular` in every project, and keeps scikit-learn
models in the store. This module holds only the hooks and imports none of the libraries: every
instance loads it. Where one of them is not installed, the plugin offers no functions.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import skipper

FORMAT = "skops"
_REQUIRED = ("pandas", "sklearn", "skops")
_HELD = frozenset(
    {"pandas", "sklearn.compose", "sklearn.ensemble", "sklearn.linear_model", "skops.io"}
)


@skipper.hook
def skipper_sources(project: skipper.Project) -> Collection[skipper.Source]:
    """Name ``tabular.prepare``, ``tabular.train`` and ``tabular.predict``."""
    del project
    if any(importlib.util.find_spec(name) is None for name in _REQUIRED):
        return ()
    file = Path(__file__).with_name("tabular.py")
    return (
        skipper.Source(
            name="tabular", file=file, module="skipper_tabular.tabular", origin="tabular"
        ),
    )


@skipper.hook
def skipper_libraries(imports: frozenset[str]) -> Collection[str]:
    """Name what this package's own modules import, for a file that uses them."""
    return _HELD if any(name.partition(".")[0] == __name__ for name in imports) else ()


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    """Save a scikit-learn estimator or pipeline with skops: data, no pickled code."""
    base = sys.modules.get("sklearn.base")
    if base is None or not isinstance(value, base.BaseEstimator):
        return None
    if importlib.util.find_spec("skops") is None:
        raise skipper.FormatError(
            "to save a scikit-learn model, install skops: pip install 'skipper-runtime[tabular]'"
        )
    from skipper_tabular import saving

    saving.save(value, folder)
    return FORMAT


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    """Load a scikit-learn model that consists of trusted types only."""
    if format != FORMAT:
        return None
    from skipper_tabular import saving

    return saving.load(folder)
