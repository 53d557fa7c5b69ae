"""LightGBM for Skipper: boosters in LightGBM's own text.

Its estimators are scikit-learn's in kind, and kept as such, with that text within them.
Importing this module does not import LightGBM: every instance loads it.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import skipper

FORMAT = skipper.Format(
    name="lightgbm", libraries={"lightgbm": "lightgbm"}, extra="lightgbm", is_fragile=True
)
_FILE = "model.txt"


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    """Save a ``Booster``, with every tree that it has."""
    lightgbm = sys.modules.get("lightgbm")
    if lightgbm is None or not isinstance(value, lightgbm.Booster):
        return None
    with FORMAT.saving(folder):
        value.save_model(folder / _FILE, num_iteration=-1)
    return FORMAT.name


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    """Load a ``Booster``."""
    if format != FORMAT.name:
        return None
    with FORMAT.loading(folder):
        import lightgbm

        return lightgbm.Booster(model_file=folder / _FILE)


@skipper.hook
def skipper_model_state(format: str, model: Any) -> bytes | None:  # noqa: A002 - the hook's word
    """A digest of the trees."""
    if format != FORMAT.name:
        return None
    return hashlib.sha256(model.model_to_string(num_iteration=-1).encode()).digest()
