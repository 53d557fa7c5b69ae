"""scikit-learn models as files: written and read by skops, of trusted types only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import skops.io

import skipper

TRUSTED = frozenset(
    {
        "functools.partial",
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.tree._tree.Tree",
        "sklearn.utils.validation.check_array",
    }
)
"""What scikit-learn's estimators hold beyond the types that skops trusts by itself.

None of them runs code when it is loaded. skops leaves the two trees out because scikit-learn does
not check their indices, so that a forged file can crash the process that predicts with it; models
are named by the hash of their content and written by training functions alone, and what crashes is
one instance.
"""

_FILE = "model.skops"


def save(model: Any, folder: Path) -> None:
    """Write ``model`` into ``folder``. Raises FormatError where :func:`load` would."""
    file = folder / _FILE
    skops.io.dump(model, file)
    _refuse(_foreign(file), "saved")


def load(folder: Path) -> Any:
    """Read the model in ``folder``. Raises FormatError if it holds a type not trusted."""
    file = folder / _FILE
    _refuse(_foreign(file), "loaded")
    return skops.io.load(file, trusted=sorted(TRUSTED))


def _foreign(file: Path) -> set[str]:
    found: Iterable[str] = skops.io.get_untrusted_types(file=file)
    return set(found) - TRUSTED


def _refuse(types: set[str], what: str) -> None:
    if types:
        raise skipper.FormatError(
            f"a scikit-learn model that holds {', '.join(sorted(types))} is not {what}: to load "
            "a type that nobody has looked at may run code. Write a plugin with a format for it."
        )
