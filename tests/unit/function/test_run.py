import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from skipper.function.run import MAX_LEFT_OUT, Restored, Run


class Heard:
    """A sink that keeps its events."""

    def __init__(self, *, cancelled: bool = False) -> None:
        self.events: list[dict[str, Any]] = []
        self.cancelled = cancelled

    def emit(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def is_cancelled(self) -> bool:
        return self.cancelled


def test_each_word_of_a_run_is_one_event() -> None:
    sink = Heard()
    run = Run(sink)
    run.progress(3, 50, loss=0.1)
    run.progress(0.5)
    run.metric("rmse", 2, step=7)
    run.log("half way")
    run.log("odd", "warning")
    assert sink.events == [
        {"type": "progress", "data": {"done": 3, "total": 50, "loss": 0.1}},
        {"type": "progress", "data": {"done": 0.5, "total": None}},
        {"type": "metric", "data": {"name": "rmse", "value": 2.0, "step": 7}},
        {"type": "log", "data": {"stream": "info", "text": "half way"}},
        {"type": "log", "data": {"stream": "warning", "text": "odd"}},
    ]


def test_of_a_very_long_line_the_beginning_is_kept() -> None:
    sink = Heard()
    Run(sink).log("x" * 100_000)
    text = sink.events[0]["data"]["text"]
    assert text == "x" * 16_384 + " [and 83616 characters more]"


# What callbacks are handed: https://github.com/treeverse/dvclive/issues/253


class Tensor:
    """One of TensorFlow's, which has ``numpy`` and no ``item``."""

    def __init__(self, value: Any) -> None:
        self._value = np.asarray(value)
        self.shape = self._value.shape

    def numpy(self) -> Any:
        return self._value


class Odd:
    """What nobody can do anything with."""

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (2, 2.0),
        (True, 1.0),
        ("0.5", 0.5),
        (Decimal("0.25"), 0.25),
        (np.float32(0.5), 0.5),
        (np.ones((1, 1)), 1.0),
        (Tensor(3), 3.0),
        (Tensor([3.0]), 3.0),
    ],
)
def test_a_metric_is_a_number_whatever_can_be_one(value: Any, number: float) -> None:
    sink = Heard()
    Run(sink).metric("auc", value)
    data = {"name": "auc", "value": number, "step": None}
    assert sink.events == [{"type": "metric", "data": data}]


def test_a_metric_that_is_no_number_yet_is_recorded_as_such() -> None:
    sink = Heard()
    Run(sink).metric("loss", math.nan)
    assert math.isnan(sink.events[0]["data"]["value"])


@pytest.mark.parametrize(
    "value", [None, "high", np.ones(3), np.array([]), Tensor([1, 2]), [1], {"a": 1}, Odd(), 10**400]
)
def test_a_metric_that_is_no_number_is_left_out_and_that_is_told_once(value: Any) -> None:
    sink = Heard()
    run = Run(sink)
    for step in range(3):
        run.metric("auc", value, step)
    run.metric("loss", 0.5, 3)
    told, loss = sink.events
    assert told["data"]["stream"] == "warning"
    assert told["data"]["text"].startswith("auc is left out of what is reported: a")
    assert loss["data"] == {"name": "loss", "value": 0.5, "step": 3}


@pytest.mark.parametrize(
    "value", [np.ones(3), Tensor([1, 2]), Odd(), "x" * 5000, pytest.param(10**5000, id="long")]
)
def test_of_progress_what_cannot_be_shown_is_left_out_and_the_rest_is_shown(value: Any) -> None:
    sink = Heard()
    run = Run(sink)
    for _ in range(2):
        run.progress(1, 3, bad=value, loss=np.float32(0.5), stage="fit", none=None, many=[1, 2])
    told, *progress = sink.events
    assert told["data"]["text"].startswith("bad is left out of what is reported: a")
    good = {"loss": 0.5, "stage": "fit", "none": None, "many": [1, 2]}
    assert [each["data"] for each in progress] == [{"done": 1, "total": 3} | good] * 2


@pytest.mark.parametrize("done", [None, "one", np.ones(2), Odd(), Tensor([1])])
def test_progress_that_is_odd_ends_nothing(done: Any) -> None:
    sink = Heard()
    Run(sink).progress(done, done, done=5)  # as a dict of figures may bring it
    assert sink.events[-1]["type"] == "progress"


def test_a_line_whose_text_cannot_be_had_is_a_line() -> None:
    sink = Heard()
    Run(sink).log(Odd())  # type: ignore[arg-type] # on purpose
    assert "whose text cannot be shown: RuntimeError" in sink.events[0]["data"]["text"]


def test_of_many_names_the_log_names_some() -> None:
    sink = Heard()
    run = Run(sink)
    for n in range(1000):
        run.metric(f"m{n}", np.ones(2))  # type: ignore[arg-type] # on purpose
    assert len(sink.events) == MAX_LEFT_OUT


def test_the_deadline_is_what_is_left_of_the_time_given() -> None:
    now = 100.0
    run = Run(seconds=30, clock=lambda: now)
    assert run.deadline == 30
    now = 125.0
    assert run.deadline == 5
    now = 131.0
    assert run.deadline == -1


def test_without_a_time_there_is_no_deadline() -> None:
    assert Run().deadline is None


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_run_is_cancelled_when_its_sink_is(cancelled: bool) -> None:
    assert Run(Heard(cancelled=cancelled)).cancelled is cancelled


def test_in_place_words_go_nowhere_and_nothing_cancels() -> None:
    run = Run()
    run.progress(1, 2)
    run.metric("m", 1)
    run.log("text")
    assert not run.cancelled
    assert (run.task_id, run.attempt, run.request_id) == (None, 1, None)


class Shelf:
    """Keeps what a run hands over, and has something of an earlier one."""

    def __init__(self, restored: Restored | None = None) -> None:
        self.kept: list[tuple[Any, Any]] = []
        self.restored = restored
        self.looks = 0

    def keep(self, value: Any, progress: dict[str, Any] | None) -> None:
        self.kept.append((value, progress))

    def restore(self) -> Restored | None:
        self.looks += 1
        return self.restored


def test_a_checkpoint_is_kept_with_the_progress_that_was_reported_last() -> None:
    shelf = Shelf()
    run = Run(Heard(), checkpoints=shelf)
    run.checkpoint("first")
    run.progress(3, 50, loss=0.1)
    run.checkpoint("second")
    assert shelf.kept == [("first", None), ("second", {"done": 3, "total": 50, "loss": 0.1})]


def test_what_is_restored_is_loaded_once_and_only_when_it_is_looked_at() -> None:
    shelf = Shelf(Restored(value=["weights"], progress={"done": 7, "total": 9}))
    sink = Heard()
    run = Run(sink, checkpoints=shelf)
    assert shelf.looks == 0
    assert run.restored is run.restored
    assert run.restored == ["weights"]
    assert shelf.looks == 1
    assert sink.events == [{"type": "progress", "data": {"done": 7, "total": 9}}]
    run.checkpoint("next")
    assert shelf.kept == [("next", {"done": 7, "total": 9})]


def test_a_first_attempt_and_a_call_in_place_go_on_from_nothing() -> None:
    sink = Heard()
    assert Run(sink, checkpoints=Shelf()).restored is None
    assert Run(sink).restored is None
    Run(sink).checkpoint(object())
    assert sink.events == []
