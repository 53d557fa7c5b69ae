"""What ``[plugins.tabular]`` says: which files callers may name, which models they may train."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$"
_LIBRARIES = ("pandas", "sklearn", "skops")


def _listed(value: Any) -> Any:
    """What a variable's text lists, which has commas."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


ModelName = Annotated[str, Field(pattern=MODEL_NAME)]


class Settings(BaseModel):
    """The table. It is the operator's word; what callers send is held to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(default_factory=lambda: Path("data").resolve())
    """The only folder whose files callers may name; relative to the project's, where we are."""
    models: Annotated[tuple[ModelName, ...], BeforeValidator(_listed)] = ()
    """Which ``tabular.NAME`` callers may train and so replace, beside ``tabular`` itself."""

    @field_validator("folder", mode="before")
    @classmethod
    def _is_named(cls, value: Any) -> Any:
        # Path("") is the project itself, and a template may have rendered to nothing
        if isinstance(value, str) and not value.strip():
            raise ValueError("name a folder, such as data")
        return value

    @field_validator("folder")
    @classmethod
    def _is_of_tables_alone(cls, value: Path) -> Path:
        folder, project = value.resolve(), Path.cwd()
        if not folder.is_dir():
            raise ValueError("there is no such folder")
        if project.is_relative_to(folder):
            raise ValueError("name one inside the project that holds nothing but tables")
        return folder


def check_libraries() -> None:
    """Raise ValueError where one is missing that the functions need."""
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"its functions need {', '.join(missing)}: pip install 'skipper-runtime[tabular]'"
        )
