"""The pools of a project: a table each, of any name. Two are there without being written down.

This is the one place that names those two; elsewhere a pool is a name and its settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from skipper.spec import DEFAULT_POOL

_NAME = r"[a-z][a-z0-9_-]{0,39}"
_TAKEN = re.compile(r"gateway(-\d+)?|scheduler|broker|guard|launcher|v|.*-consumer")
"""What other parts of the tree are called; ``v`` is the embedded broker's socket."""


def _check_name(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise ValueError(
            "use lower-case letters, digits, - and _, at most 40, and begin with a letter"
        )
    if _TAKEN.fullmatch(name):
        raise ValueError("another part of the tree is called so; choose another name")
    return name


PoolName = Annotated[str, AfterValidator(_check_name)]


class PoolSettings(BaseModel):
    """One hardware class. Direct calls and tasks have separate capacity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slots: int = Field(
        0, ge=0, le=1024, description="direct calls at once; 0 means twice the cores"
    )
    task_slots: int = Field(0, ge=0, le=1024, description="tasks at once; 0 means the cores")
    queue: int = Field(1000, ge=1, description="direct calls that may wait per function")
    queue_total: int = Field(4000, ge=1, description="direct calls that may wait in the pool")
    queue_mb: float = Field(
        256.0, gt=0, description="MiB of direct calls that may wait in the pool"
    )
    queue_wait_s: float = Field(30.0, gt=0, description="how long a direct call may wait, seconds")
    idle_instances: int = Field(
        64, ge=0, description="idle instances kept at most, those of `min=` apart"
    )
    memory_mb: int = Field(
        0, ge=0, description="limit per instance, MiB; 0 means half the machine's memory"
    )
    max_result_mb: float = Field(
        32.0, gt=0, le=512, description="largest value that a function may return, MiB of JSON"
    )
    start: Literal["auto", "fork", "spawn"] = Field("auto", description="how instances start")
    devices: bool = Field(False, description="whether its instances are given the machine's GPUs")
    require_device: bool = Field(
        False, description="refuse to start a pool with devices where there is no GPU"
    )
    load_timeout_s: float = Field(
        120.0, gt=0, description="how long a file, a model or a template may load"
    )


BUILT_IN: Mapping[str, PoolSettings] = {
    DEFAULT_POOL: PoolSettings(),
    "gpu": PoolSettings(devices=True),
}


def with_built_in(tables: Any) -> Any:
    """What is written of pools, with the built-in ones before it and their values beneath it."""
    if not isinstance(tables, dict):
        return tables  # for the model to refuse
    return dict(BUILT_IN) | {
        name: _upon(BUILT_IN[name], table) if name in BUILT_IN else table
        for name, table in tables.items()
    }


def _upon(pool: PoolSettings, table: Any) -> Any:
    given = table.model_dump(exclude_unset=True) if isinstance(table, PoolSettings) else table
    return pool.model_dump(exclude_unset=True) | given if isinstance(given, dict) else given
