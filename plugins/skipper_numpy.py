"""NumPy for Skipper: an array as a model, read from its file as far as it is used.

Importing this module imports no NumPy: every instance loads it.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import skipper

FORMAT = skipper.Format(name="npy", libraries={"numpy": "numpy"}, extra="arrays")
_FILE = "model.npy"


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    """Save a ``numpy.ndarray`` as ``.npy``.

    Raises FormatError for one of Python objects, which only pickle could write, and for one with a
    mask, which would be lost.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray):
        return None
    if isinstance(value, numpy.ma.MaskedArray):
        raise skipper.FormatError("the array has a mask, which .npy does not keep; fill it first")
    if value.dtype.hasobject:
        raise skipper.FormatError(
            f"the array is of Python objects ({value.dtype}), which only pickle could keep; "
            "give it a dtype of numbers or texts"
        )
    with FORMAT.saving(folder):
        numpy.save(folder / _FILE, value, allow_pickle=False)
    return FORMAT.name


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    """Load an array, read-only, as a map of its file, which may be removed meanwhile."""
    if format != FORMAT.name:
        return None
    with FORMAT.loading(folder):
        import numpy as np

        return np.load(folder / _FILE, mmap_mode="r", allow_pickle=False)


@skipper.hook
def skipper_model_state(format: str, model: Any) -> bytes | None:  # noqa: A002 - the hook's word
    """A digest of the array; of a map that nobody can write to, what it is."""
    if format != FORMAT.name:
        return None
    what = repr((model.shape, model.dtype, model.flags.writeable)).encode()
    return what if not model.flags.writeable else hashlib.sha256(what + model.tobytes()).digest()
