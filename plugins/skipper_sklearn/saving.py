"""scikit-learn models as files: written and read by skops, of trusted parts only."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import skops.io
from skops.io.exceptions import UnsupportedTypeException

import skipper
from skipper_sklearn.trust import Trust

_FILE = "model.skops"
_SCHEMA = "schema.json"
_OLDEST = 2
"""The oldest protocol of skops whose schemas :mod:`skipper_sklearn.trust` can read."""


def save(model: Any, folder: Path) -> None:
    """Write ``model`` into ``folder``. Raises FormatError where :func:`load` would."""
    file = folder / _FILE
    try:
        skops.io.dump(model, file)
    except (UnsupportedTypeException, RecursionError) as error:
        kind = type(model)
        reason = "it holds itself" if isinstance(error, RecursionError) else str(error)
        raise skipper.FormatError(
            f"skops cannot save this {kind.__module__}.{kind.__qualname__}: {reason:.300}"
        ) from error
    _check(file, "saved")


def load(folder: Path) -> Any:
    """Read the model in ``folder``. Raises FormatError if a part of it is not trusted."""
    file = folder / _FILE
    _check(file, "loaded")
    # All of them have just been looked at, each as what it is used for.
    return skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))


def _check(file: Path, what: str) -> None:
    with zipfile.ZipFile(file) as archive:
        schema = json.loads(archive.read(_SCHEMA))
    protocol = schema.get("protocol") if isinstance(schema, dict) else None
    if not isinstance(protocol, int) or protocol < _OLDEST:
        raise skipper.FormatError(
            f"a model of skops' protocol {protocol!r} is not {what}, only one of {_OLDEST} or "
            "later; train it again"
        )
    trust = Trust()
    trust.look_at(schema)
    if trust.refused:
        raise skipper.FormatError(
            f"the scikit-learn model is not {what}: {'; '.join(sorted(trust.refused))}"
        )
