"""One function in one version of its code, and with the versions of its models."""

from __future__ import annotations

from dataclasses import dataclass

from skipper.instance.jobs import CALLS_AT_ONCE, ModelRef, ModuleText, SourceInfo
from skipper.spec import BrokenFile, FunctionSpec


class FunctionVersion:
    """One function in one version of its code.

    Its instances run ``texts``, as they were read; the files may say something else by now.
    """

    def __init__(
        self, spec: FunctionSpec, source: SourceInfo, texts: tuple[ModuleText, ...] = ()
    ) -> None:
        self.spec, self.source, self.texts = spec, source, texts
        self.at_once = CALLS_AT_ONCE if spec.is_async else 1
        """How many calls, or batches of them, an instance runs at the same time."""
        self.is_in_turn = spec.is_in_turn
        self.may_lie_ready = spec.is_in_turn and not spec.streams
        self.problem: BrokenFile | None = None
        """Why there is no instance that would run a call: the last one did not start."""

    @property
    def name(self) -> str:
        """The function's."""
        return self.spec.name


@dataclass(frozen=True)
class Edition:
    """A version of a function with the versions of models that it is served with.

    This is what has instances: they hold these models from their start to their end.
    """

    version: FunctionVersion
    models: tuple[ModelRef, ...] = ()

    def __str__(self) -> str:
        return " ".join(
            (self.version.name, self.version.spec.code, *(m.label for m in self.models))
        )
