"""What a running function can report and look up: progress, metrics, log lines, its deadline."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from skipper.errors import TooLargeError
from skipper.function.figures import Shown, figure, shown, shown_all
from skipper.function.model import Model
from skipper.function.named import REQUIRED, ModelSource, connected

MAX_STEP = 2**31 - 1
MAX_TEXT = 1 << 14
"""Characters of one line of a log; an event has to stay below 64 KiB even if each takes four."""
MAX_NAME = 200
"""Characters of a metric's name."""
MAX_LEFT_OUT = 20
"""Names of which the log says that they are left out."""


class Sink(Protocol):
    """Takes a run's events: to the instance's host, or nowhere for a call in place."""

    def emit(self, event: dict[str, Any]) -> None:
        """Send ``{"type", "data"}``. Raises TooLargeError for more than 64 KiB of JSON."""
        ...

    def is_cancelled(self) -> bool:
        """Whether the run is to stop."""
        ...


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a run goes on from, and the progress that had been reported by then."""

    value: Any
    progress: dict[str, Any] | None


class Checkpoints(Protocol):
    """Keeps what a run hands over for the next attempt of its task, and finds it again."""

    def keep(self, value: Any, progress: dict[str, Any] | None) -> None:
        """Return once it is on record."""
        ...

    def restore(self) -> Restored | None:
        """What an earlier attempt has left; None for nothing that can be loaded."""
        ...


class Publications(Protocol):
    """Publishes models of a run that goes on."""

    def publish(self, model: Model, step: int) -> dict[str, Any]:
        """Return its record once it is published."""
        ...


class Counting(Protocol):
    """Adds up what runs count and observe. Nothing that it is given raises."""

    def count(self, name: object, amount: object, labels: Mapping[str, object]) -> None:
        """Add to a counter."""
        ...

    def observe(self, name: object, value: object, labels: Mapping[str, object]) -> None:
        """Add to a histogram."""
        ...


class _NoSink:
    def emit(self, event: dict[str, Any]) -> None:
        del event

    def is_cancelled(self) -> bool:
        return False


class Run:
    """One run of a function; injected into a keyword-only parameter typed ``skipper.Run``.

    In a function that is called in place (``f(…)``) its events go nowhere and nothing cancels it.
    """

    def __init__(
        self,
        sink: Sink | None = None,
        *,
        task_id: str | None = None,
        attempt: int = 1,
        request_id: str | None = None,
        seconds: float | None = None,
        checkpoints: Checkpoints | None = None,
        models: ModelSource | None = None,
        publications: Publications | None = None,
        tallies: Counting | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink: Sink = sink or _NoSink()
        self._clock = clock
        self._ends = None if seconds is None else clock() + seconds
        self._checkpoints, self._models = checkpoints, models
        self._publications, self._tallies = publications, tallies
        self._steps: dict[str, int] = {}
        self._progress: dict[str, Any] | None = None
        self._left_out: set[str] = set()
        self.task_id = task_id
        """The task this is an attempt of; None in a direct call."""
        self.attempt = attempt
        """Which run of the task this is, from 1."""
        self.request_id = request_id
        """The ``X-Request-Id`` of the call."""

    def progress(self, done: float, total: float | None = None, /, **values: Any) -> None:
        """Report how far the work is: ``done`` of ``total`` steps, with any current values.

        Whoever watches the task sees it at once. Values (``loss=0.1``) are numbers, arrays and
        tensors of one element, short texts, lists and dicts. What cannot be shown is left out,
        which the task's log says once.
        """
        found, problems = shown_all(values | {"done": done, "total": total})
        self._tell_left_out(problems)
        self._report({"done": None, "total": None} | found)

    def _report(self, progress: dict[str, Any]) -> None:
        self._emit("progress", progress)
        self._progress = progress

    def _emit(self, type_: str, data: dict[str, Any]) -> None:
        """Send an event, if it can be sent: nothing that only reports ends a function."""
        try:
            self._sink.emit({"type": type_, "data": data})
        except TooLargeError as error:
            self._tell_left_out({type_: str(error)})

    def _tell_left_out(self, problems: Mapping[str, str]) -> None:
        """Say in the task's log what is not reported, and why: once for each name."""
        for name, problem in problems.items():
            if name not in self._left_out and len(self._left_out) < MAX_LEFT_OUT:
                self._left_out.add(name)
                self.log(f"{name[:MAX_NAME]} is left out of what is reported: {problem}", "warning")

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Record one point of the curve ``name``; NaN and infinities are recorded as null.

        ``value`` may be an array or a tensor of one element. What is no number is left out, which
        the task's log says once.
        """
        found, at = figure(value), Shown(None) if step is None else shown(step)
        name = str(name)[:MAX_NAME]
        if problem := found.problem or at.problem:
            self._tell_left_out({name: problem})
        if not found.problem:
            self._emit("metric", {"name": name, "value": found.value, "step": at.value})

    def count(self, name: str, /, amount: float = 1, **labels: Any) -> None:
        """Add ``amount`` to a counter that ``/metrics`` has: ``skipper_function_NAME_total``.

        It adds up over all runs, of direct calls, tasks and batches, in all processes; the labels
        (``kind="in"``) part it into series, beside ``function`` and ``pool``. ``amount`` is a
        finite number that is not negative. A function has 50 names and 200 series at most, and a
        label 100 characters. What cannot be shown is left out and counted, which the log says once.
        """
        if self._tallies is not None:
            self._tallies.count(name, amount, labels)

    def observe(self, name: str, value: float, /, **labels: Any) -> None:
        """Add ``value`` to a histogram that ``/metrics`` has: ``skipper_function_NAME``.

        Its buckets end at 1, 2.5 and 5 times each power of ten from 0.001 to 1,000. Otherwise as
        :meth:`count`.
        """
        if self._tallies is not None:
            self._tallies.observe(name, value, labels)

    def log(self, message: str, level: str = "info") -> None:
        """Write a line to the task's log; of one of more than 16,384 characters the beginning."""
        text = _text_of(message)
        if len(text) > MAX_TEXT:
            text = f"{text[:MAX_TEXT]} [and {len(text) - MAX_TEXT} characters more]"
        self._emit("log", {"stream": level, "text": text})

    def checkpoint(self, value: Any, /) -> None:
        """Keep ``value`` for the next attempt of the task, which finds it as :attr:`restored`.

        Whatever a model may be can be one; or a ``Path`` to a file or a folder, of which the
        content is kept. Returns once it is on the disk and on record, in place of the one before. A
        direct call has no other attempt: there it does nothing. Raises FullError or NoRoomError
        where there is no room for it and UnavailableError where it cannot be recorded, which a
        function may catch and go on; FormatError for what no plugin saves.
        """
        if self._checkpoints is not None:
            self._checkpoints.keep(value, self._progress)

    @functools.cached_property
    def restored(self) -> Any:
        """The last checkpoint of an earlier attempt of this task; None where there is none.

        Attempts that failed, whose process, host or machine died, or that a shutdown ended, and
        those of the ended task that this one was made from by ``retry``. It is loaded when it is
        first looked at, and a path lies in a folder of this run's own. One that cannot be loaded
        any more is told in the task's log, and the one before it is tried, where it is kept.
        """
        found = None if self._checkpoints is None else self._checkpoints.restore()
        if found is None:
            return None
        if found.progress is not None:
            self._report(found.progress)
        return found.value

    def model(self, name: str, *, default: Any = REQUIRED) -> Any:
        """A copy of this run's own of the model ``name``: to train it on, or to beat it.

        In the version that is in production; ``"boston@7"``, ``"boston@candidate"`` and aliases,
        too. Where there is none, ``default``, else NotFoundError. Each look loads it anew. Raises
        NotConnectedError where the function is called in place, and what loading raises.
        """
        return (self._models or connected()).own(name, default)

    def save(self, model: Model, /, *, step: int | None = None) -> dict[str, Any]:
        """Publish a model while the training goes on; its record: name, version, metrics …

        As at a training's end, it is first loaded and tried in a fresh process, which this waits
        for. Where the attempt is lost and the task runs again, the same ``step`` of the same name
        is the version that it already is. ``step`` counts the calls for that name unless it is
        given; give it, as the epoch, where a run goes on from a checkpoint. In a function that is
        called in place nothing is published, and the version is None. Raises FormatError for what
        cannot be saved or loaded; of that the task keeps what there is.
        """
        if step is None:
            step = self._steps.get(model.name, 0)
        if not isinstance(step, int) or not 0 <= step <= MAX_STEP:
            raise ValueError(f"a step is a number from 0 to {MAX_STEP}, not {step!r}")
        self._steps[model.name] = step + 1
        if self._publications is None:
            return {"name": model.name, "version": None, "metrics": dict(model.metrics)}
        return self._publications.publish(model, step)

    @property
    def deadline(self) -> float | None:
        """Seconds left until the deadline, negative once it has passed; None without one."""
        return None if self._ends is None else self._ends - self._clock()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked this run to stop. Long loops look at it and return."""
        return self._sink.is_cancelled()


def _text_of(message: object) -> str:
    try:
        return str(message)
    except Exception as error:  # noqa: BLE001 - its class may be anybody's
        return f"<a {type(message).__name__} whose text cannot be shown: {type(error).__name__}>"
