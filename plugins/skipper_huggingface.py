"""Hugging Face for Skipper: models and tokenizers of transformers as models, in their own folders.

Importing this module does not import transformers: every instance loads it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import skipper

FORMAT = skipper.Format(
    name="huggingface",
    libraries={"transformers": "transformers", "torch": "torch", "safetensors": "safetensors"},
    extra="huggingface",
)
_CLASS = "skipper.json"
_KINDS = ("PreTrainedModel", "PreTrainedTokenizerBase")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py")


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    """Save a model or a tokenizer by its ``save_pretrained``, weights by safetensors.

    Raises FormatError for a class that is not of transformers itself, because its code would have
    to come from the folder.
    """
    transformers = sys.modules.get("transformers")
    if transformers is None or not isinstance(value, _kinds(transformers)):
        return None
    name = type(value).__name__
    if getattr(transformers, name, None) is not type(value):
        raise skipper.FormatError(
            f"{type(value).__module__}.{name} is no class of transformers itself, "
            "and code is not loaded from a model's folder"
        )
    with FORMAT.saving(folder):
        value.save_pretrained(folder)
        (folder / _CLASS).write_text(json.dumps({"class": name}), encoding="utf-8")
        _check_files(folder)
    return FORMAT.name


def _kinds(transformers: Any) -> Any:
    return tuple(getattr(transformers, name) for name in _KINDS)


def _is_theirs(kind: object, transformers: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, _kinds(transformers))


def _check_files(folder: Path) -> None:
    """Raise FormatError where a file could hold code, or a pickle."""
    for path in folder.rglob("*"):
        if path.suffix in _PICKLES:
            raise skipper.FormatError(
                f"the folder holds {path.name}, which could run code; only safetensors are loaded"
            )


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    """Load what was saved: no code of the folder's, no pickle, nothing from a hub."""
    if format != FORMAT.name:
        return None
    with FORMAT.loading(folder):
        import transformers

        _check_files(folder)
        name = json.loads((folder / _CLASS).read_bytes())["class"]
        is_name = isinstance(name, str) and name.isidentifier()
        kind: Any = getattr(transformers, name) if is_name else None
        if not _is_theirs(kind, transformers):
            raise skipper.FormatError(f"{name!r:.100} is no model or tokenizer of transformers")
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        if issubclass(kind, transformers.PreTrainedModel):
            return kind.from_pretrained(folder, use_safetensors=True, **options).eval()
        return kind.from_pretrained(folder, **options)


@skipper.hook
def skipper_model_state(format: str, model: Any) -> bytes | None:  # noqa: A002 - the hook's word
    """Of a model a digest of its weights; of a tokenizer, which has many parts, none."""
    if format != FORMAT.name or not hasattr(model, "state_dict"):
        return None
    import torch

    digest = hashlib.sha256(repr((model.config.to_dict(), model.training)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.digest()
