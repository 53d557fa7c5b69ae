"""Tables for Skipper: any CSV plus a target column becomes a served scikit-learn model.

Keeps scikit-learn models in the store, in every project. Its functions let callers read files and
replace models, so a project has them only where it has a ``[plugins.tabular]`` table, and within
its bounds. This module holds the hooks and imports none of the libraries: every instance loads it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import skipper
from skipper_tabular.settings import Settings, check_libraries

FORMAT = "skops"
SOURCE = "tabular"
"""The source of its functions, and the table of settings that they need."""
configured: list[Settings] = []
"""The project's table, in an instance of those functions; in all others nothing."""
_HELD = frozenset(
    {"pandas", "sklearn.compose", "sklearn.ensemble", "sklearn.linear_model", "skops.io"}
)


@skipper.hook
def skipper_sources(project: skipper.Project) -> Collection[skipper.Source]:
    """Name the file of ``tabular.prepare``, ``train`` and ``predict``, where a table stands."""
    if SOURCE not in project.set_up:
        return ()
    file = Path(__file__).with_name("tabular.py")
    module = "skipper_tabular.tabular"
    return (skipper.Source(name=SOURCE, file=file, module=module, origin="tabular"),)


@skipper.hook
def skipper_settings(settings: Mapping[str, Any]) -> None:
    """Take the table: the folder that callers may read, and the models that they may replace."""
    check_libraries()
    configured[:] = [Settings.model_validate(settings)]


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


@skipper.hook
def skipper_model_state(format: str, model: Any) -> bytes | None:  # noqa: A002 - the hook's word
    """A digest of the estimator and all that it has learned."""
    if format != FORMAT:
        return None
    # Pickled to be hashed, which runs no code of a file; nothing is ever unpickled.
    return hashlib.sha256(pickle.dumps(model, protocol=5)).digest()
