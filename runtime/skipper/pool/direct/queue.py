"""One name of the catalogue: the version that is served now, and the calls that wait for it."""

from __future__ import annotations

from collections import deque
from typing import Any

from skipper.pool.processes.version import FunctionVersion
from skipper.spec import BrokenFile, FunctionSpec

RUNS = 16
"""How many runs the mean of their times looks back on, more or less."""


AHEAD_S = 0.01
"""A call that lies ready in a busy instance should have its turn within this time."""


AHEAD = 8
"""Most calls that lie ready in one instance."""


UNKNOWN_S = 1.0
"""What is believed of code that has not run yet: that it takes long."""


_FADES = 0.95
"""How much of the longest run is still believed after another one."""


class FunctionQueue:
    """One name of the catalogue: the version that is served now, and the calls that wait for it."""

    def __init__(self, served: FunctionVersion) -> None:
        self.served = served
        self.queue: deque[Any] = deque()
        self.is_queued = False
        """Whether the direct lane has it in its ring of entries with waiting calls."""
        self.is_alarmed = False
        """Whether a timer will wake its batch."""
        self.run_s = 0.0
        """How long an instance is busy with one call, or one batch of them: a running mean."""
        self.longest_s = UNKNOWN_S
        """The longest such time of late: long until a hundred runs or so say otherwise."""
        self.load_error: BrokenFile | None = None
        """Why no instance of this version can serve; tried again from time to time."""
        self.retry_at = 0.0
        self.failures = 0

    @property
    def spec(self) -> FunctionSpec:
        return self.served.spec

    def ran(self, seconds: float) -> None:
        """An instance was busy for so long."""
        if seconds > 0:  # it says nothing where the instance is being ended
            self.run_s += (seconds - self.run_s) / RUNS
            self.longest_s = max(seconds, self.longest_s * _FADES)

    @property
    def ahead(self) -> int:
        """How many further calls may lie ready in an instance that runs one.

        So that a quick function need not wait for its host between two calls. None where calls have
        taken long lately: one that lies there cannot be given to another instance.
        """
        if not self.served.may_lie_ready:
            return 0
        return min(AHEAD, int(AHEAD_S / self.longest_s))

    @property
    def is_active(self) -> bool:
        """Whether there is anything to look after: most of many functions are not called."""
        return bool(self.queue or self.served.instances or self.served.spec.min_instances)
