"""What a function declares, as data that every process may hold without importing the function."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from skipper.cron import Timetable
from skipper.errors import DefinitionError

DEFAULT_POOL = "cpu"
"""The pool of a function that names none; every project has it."""
PRIORITIES = range(-10, 11)
"""Few enough that each step means something, and that nobody needs to go beyond the last."""
BACKOFF_S = (1.0, 300.0)
"""The first pause between two attempts, unless a function declares another; the longest of any."""
LONGEST_S = 366 * 86400.0
"""No time that anybody declares or asks for is longer."""
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DIRECT_TIMEOUT_S = 60.0
"""How long a direct call may take from the gateway's receipt, unless its function declares it."""


class Kind(StrEnum):
    """The three kinds of function."""

    DATA = "data"
    TRAINING = "training"
    INFERENCE = "inference"


class Mode(StrEnum):
    """How a plain call of a function is answered."""

    DIRECT = "direct"
    TASK = "task"


def is_private(name: str) -> bool:
    """Whether a function is for other functions and the runtime alone: ``boston._clean``."""
    return name.rpartition(".")[2].startswith("_")


class FunctionSpec(BaseModel):
    """One function as its file declares it. Times are in seconds, memory in MiB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    pool: str = DEFAULT_POOL
    mode: Mode = Mode.DIRECT
    timeout_s: float | None = None
    start_timeout_s: float | None = None
    retries: int = 0
    retry_on: tuple[str, ...] = ()
    """Names of the exceptions after which it is tried again; all of them if empty."""
    backoff_s: float = 1.0
    expires_s: float | None = None
    priority: int = 0
    concurrency: int | None = None
    """So many of its tasks run at once at most, over all hosts.

    Of each value of ``concurrency_key``, a member of the body, where that is given.
    """
    concurrency_key: str = ""
    memory_mb: int = 0
    threads: int | None = None
    min_instances: int = 0
    max_instances: int | None = None
    idle_s: float | None = None
    recycle: int | None = None
    batch: int = 1
    batch_wait_s: float = 0.0
    schedule: Timetable | None = None
    summary: str = ""
    description: str = ""
    streams: bool = False
    is_async: bool = False
    models: tuple[str, ...] = ()
    models_by_call: tuple[str, ...] = ()
    """Names of models that calls ask for: filled by each call, or with a default."""
    file: str
    line: int
    code: str
    has_values: bool = False
    """Whether something in its input is more than JSON, and a body may refer to files."""
    takes: dict[str, tuple[str, ...]] = {}
    """Body parameter → the media types that it is read from beside JSON, of those that have any."""
    takes_many: tuple[str, ...] = ()
    """Body parameters that are lists of values with such media types."""
    max_input: int | None = None
    """Bytes that a body may have; None for what the settings say."""
    gives: tuple[str, ...] = ()
    """Media types in which the value can be had, the usual one first; none for JSON alone."""
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]

    @property
    def is_in_turn(self) -> bool:
        """Whether an instance runs its calls one after the other, as they came."""
        return not self.is_async and self.batch == 1

    @property
    def direct_s(self) -> float:
        """How long a direct call may take, in seconds."""
        return self.timeout_s or DIRECT_TIMEOUT_S

    @property
    def max_attempts(self) -> int:
        """How many runs the function's own failures may use up."""
        return self.retries + 1


class BrokenFile(BaseModel):
    """A file of functions or a plugin that could not be read, with where and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    line: int | None = None
    error: str
    hint: str = ""
    traceback: str = ""
    function: str = ""
    """The function that is wrong, where it is not the file as a whole."""
    functions: tuple[str, ...] = ()
    """Names that this file served before it broke, or that it is known to define."""
    tried_at: datetime | None = None
    """When that was found last, in UTC."""

    @property
    def place(self) -> tuple[str, str]:
        """What it is about: a file, or a function of one."""
        return self.file, self.function

    @property
    def reason(self) -> str:
        """What is wrong, and often what to do about it."""
        return f"{self.error} ({self.hint})" if self.hint else self.error

    @property
    def tried(self) -> str:
        """:attr:`reason`, with when it was found: what was mended since then is not known yet."""
        at = f" [tried at {self.tried_at:%H:%M:%S} UTC]" if self.tried_at else ""
        return f"{self.reason}{at}"

    def is_as(self, other: BrokenFile | None) -> bool:
        """Whether the same is wrong, whenever that was found."""
        undated = {"tried_at": None}
        return other is not None and self.model_copy(update=undated) == other.model_copy(
            update=undated
        )

    def now(self) -> BrokenFile:
        """The same, found at this moment."""
        return self.model_copy(update={"tried_at": datetime.now(UTC).replace(microsecond=0)})


def seconds(text: float | str) -> float:
    """``90``, ``"90s"``, ``"30m"`` or ``"1h30m"`` in seconds. Raises :class:`DefinitionError`."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text).replace(" ", ""):
        raise DefinitionError(f"{text!r} is not a time; write seconds, or '90s', '30m', '1h30m'.")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
