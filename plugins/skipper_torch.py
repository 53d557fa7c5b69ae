"""PyTorch for Skipper: a module as a model, its weights by safetensors and its making by name.

Importing this module does not import PyTorch: every instance loads it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import skipper

FORMAT = skipper.Format(
    name="torch", libraries={"torch": "torch", "safetensors": "safetensors"}, extra="torch"
)
_FILE, _MADE_BY = "model.safetensors", "made_by.json"
_THEIRS = "torch.nn.modules."


class Weights:
    """A trained ``torch.nn.Module`` on its way to the store, and how another like it is made::

        return skipper.Model("digits", skipper_torch.Weights(net, Net, hidden=32))

    ``factory`` is a class or a function of the project's, at the top level of a file, or a class of
    ``torch.nn``; ``arguments`` are plain JSON values. Whoever loads the model gets
    ``factory(**arguments)`` with the weights of ``module``, in evaluation mode.
    """

    def __init__(self, module: Any, factory: Callable[..., Any], /, **arguments: Any) -> None:
        self.module, self.factory, self.arguments = module, factory, arguments


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    """Save :class:`Weights`, once a module like it has been made as loading will.

    Raises FormatError for a bare module, and for a program of ``torch.export``, because loading one
    runs pickles and expressions out of the file.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if isinstance(value, torch.nn.Module) and not _is_hugging_face(value):
        raise skipper.FormatError(_bare(value))
    if isinstance(value, torch.export.ExportedProgram):
        raise skipper.FormatError(
            "a program of torch.export is not kept, because loading it runs pickles and "
            "expressions out of the file; keep skipper_torch.Weights(module, factory), or turn "
            "the program into ONNX: torch.onnx.export(program).model_proto"
        )
    if not isinstance(value, Weights):
        return None
    with FORMAT.saving(folder):
        _save(value, folder)
    return FORMAT.name


def _is_hugging_face(module: Any) -> bool:
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(module, transformers.PreTrainedModel)


def _bare(module: Any) -> str:
    name = type(module).__name__
    return (
        f"how a {name} is made is not in its weights: return skipper_torch.Weights(module, "
        f"factory, **arguments), such as Weights(net, {name})"
    )


def _save(value: Weights, folder: Path) -> None:
    from safetensors.torch import save_model

    name = [value.factory.__module__, value.factory.__qualname__]
    _factory(*name)
    try:
        text = json.dumps({"factory": name, "arguments": value.arguments})
    except TypeError as error:
        raise skipper.FormatError(
            f"an argument of the factory is no plain value: {error}"
        ) from error
    (folder / _MADE_BY).write_text(text, encoding="utf-8")
    try:
        save_model(value.module, str(folder / _FILE))
    except Exception as error:
        raise skipper.FormatError(f"safetensors cannot keep the weights: {error}") from error
    try:
        _load(folder)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise skipper.FormatError(
            f"{'.'.join(name)} makes no module that takes these weights: {reason:.300}"
        ) from error


def _factory(module: str, name: str) -> Any:
    """What makes the module. Raises FormatError for what is neither PyTorch's nor the project's."""
    if not f"{module}.".startswith(_THEIRS):
        return skipper.from_project(module, name)
    import torch

    found = getattr(torch.nn, name, None)
    if not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
        raise skipper.FormatError(
            f"{module}.{name}, which the model names, is no class of torch.nn"
        )
    return found


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    """Make the module and give it its weights; in evaluation mode, on the CPU."""
    if format != FORMAT.name:
        return None
    with FORMAT.loading(folder):
        return _load(folder)


def _load(folder: Path) -> Any:
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_model

    told = json.loads((folder / _MADE_BY).read_bytes())
    module = _factory(*told["factory"])(**told["arguments"])
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"{'.'.join(told['factory'])} made a {type(module).__name__}, no module")
    with safe_open(str(folder / _FILE), "pt") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    for name, own in module.state_dict().items():  # of another precision than it is made with
        if name in kinds and own.is_floating_point() and _KINDS.get(kinds[name]):
            module.to(getattr(torch, _KINDS[kinds[name]]))
            break
    load_model(module, str(folder / _FILE), strict=True)
    return module.eval()


_KINDS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
"""What safetensors calls the types of weights, and PyTorch."""


@skipper.hook
def skipper_model_state(format: str, model: Any) -> bytes | None:  # noqa: A002 - the hook's word
    """A digest of the weights, and of whether each part trains."""
    if format != FORMAT.name:
        return None
    import torch

    digest = hashlib.sha256(repr([part.training for part in model.modules()]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.digest()
