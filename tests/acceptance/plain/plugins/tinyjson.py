"""A format plugin of the project's own: a dict of numbers as one JSON file."""

import json
from pathlib import Path
from typing import Any

import skipper


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    if not isinstance(value, dict):
        return None
    (folder / "model.json").write_text(json.dumps(value))
    return "tiny-json"


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    if format != "tiny-json":
        return None
    value = json.loads((folder / "model.json").read_text())
    if "damaged" in value:
        raise ValueError("a damaged model")
    return value
