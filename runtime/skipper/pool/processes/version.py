"""One version of a function's code, and the instances that have loaded it."""

from __future__ import annotations

from pathlib import Path

from skipper.instance.jobs import CALLS_AT_ONCE, SourceInfo
from skipper.pool.processes.instance import Instance
from skipper.spec import FunctionSpec


class FunctionVersion:
    """One function in one version of its code, and the instances that have loaded it.

    Its instances run ``texts``, as they were read; the files may say something else by now.
    """

    def __init__(
        self, spec: FunctionSpec, source: SourceInfo, texts: dict[Path, bytes] | None = None
    ) -> None:
        self.spec, self.source, self.texts = spec, source, texts or {}
        self.at_once = CALLS_AT_ONCE if spec.is_async else 1
        """How many calls, or batches of them, an instance runs at the same time."""
        self.is_in_turn = spec.is_in_turn
        self.may_lie_ready = spec.is_in_turn and not spec.streams
        self.instances: list[Instance] = []
        self.starting = 0
