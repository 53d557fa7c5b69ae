"""Models that are dictionaries, kept as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import skipper

FORMAT = "plain"


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    if not isinstance(value, dict):
        return None
    (folder / "model.json").write_text(json.dumps(value))
    return FORMAT


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    return json.loads((folder / "model.json").read_text()) if format == FORMAT else None
