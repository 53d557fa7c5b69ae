"""Parameters that several routes take, with what they accept."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

TaskId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
MAX_PAGE = 200
"""The most items on a page of a list."""
