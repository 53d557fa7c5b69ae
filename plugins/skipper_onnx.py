"""ONNX for Skipper: a graph as a model, served by onnxruntime.

Importing this module imports neither library: every instance loads it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import skipper

FORMAT = skipper.Format(name="onnx", libraries={"onnxruntime": "onnxruntime"}, extra="onnx")
_FILE = "model.onnx"
_REMOTE = "AzureExecutionProvider"
"""It sends what it is given to another server, where a graph says so."""
_threads = [1]
"""The share of the cores that a session of this process computes on."""


@skipper.hook
def skipper_instance_started(threads: int) -> None:
    """Hold sessions to this instance's share of the cores."""
    _threads[:] = [threads]


@skipper.hook
def skipper_threads_changed(threads: int) -> None:
    """Those that are loaded from now on: a session keeps its threads."""
    _threads[:] = [threads]


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    """Save an ``onnx.ModelProto``, once it has been checked and loaded as serving will.

    Raises FormatError for one that onnxruntime cannot serve.
    """
    onnx = sys.modules.get("onnx")
    if onnx is None or not isinstance(value, onnx.ModelProto):
        return None
    with FORMAT.saving(folder):
        try:
            onnx.save_model(value, folder / _FILE)
            onnx.checker.check_model(folder / _FILE)
            _session(folder)
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise skipper.FormatError(f"onnxruntime cannot serve the model: {reason}") from error
    return FORMAT.name


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    """Load an ``onnxruntime.InferenceSession``: ``model.run(None, {"x": array})``."""
    if format != FORMAT.name:
        return None
    with FORMAT.loading(folder):
        return _session(folder)


def _session(folder: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads[0]
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors: what else it says goes to the function's log
    providers = [name for name in onnxruntime.get_available_providers() if name != _REMOTE]
    return onnxruntime.InferenceSession(str(folder / _FILE), options, providers=providers)


@skipper.hook
def skipper_model_state(format: str, model: Any) -> bytes | None:  # noqa: A002 - the hook's word
    """Where it computes: nothing else about a session can be changed."""
    if format != FORMAT.name:
        return None
    return repr((model.get_providers(), model.get_provider_options())).encode()
