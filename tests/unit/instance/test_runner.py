import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import BaseModel, field_validator

import skipper
from skipper.errors import Cancelled, TooLargeError
from skipper.function.decorators import connect_to
from skipper.function.model import Model
from skipper.instance import caller, runner
from skipper.instance.caller import HostCaller
from skipper.instance.jobs import ModelRef
from skipper.instance.link import OWN
from skipper.instance.sink import MAX_EVENT
from skipper.outcomes import Outcome
from skipper.wire import calls, frames
from skipper.wire.frames import Frame, FrameKind
from tests.unit.instance.serving import CODE, Serving, call, own_signals, parse


class House(BaseModel):
    rooms: int

    @field_validator("rooms")
    @classmethod
    def no_palace(cls, rooms: int) -> int:
        if rooms > 100:
            raise RuntimeError("the validator itself is broken")
        return rooms


@skipper.data
def double(x: int) -> int:
    return 2 * x


@skipper.data
def price(house: House) -> float:
    return house.rooms * 1.5


# --- values and bodies -----------------------------------------------------------------------


def test_a_call_is_answered_with_its_value_and_the_code_that_served_it(serving: Serving) -> None:
    assert serving.answer(double, call({"x": 21})) == (Outcome.OK, CODE, 42)


def test_calls_are_answered_one_by_one_under_their_own_ids(serving: Serving) -> None:
    received = serving.run(double, *(call({"x": n}, n) for n in range(1, 50)))
    assert [(f.id, parse(f).value) for f in received] == [(n, 2 * n) for n in range(1, 50)]


@pytest.mark.parametrize(
    ("function", "body", "pointer"),
    [
        (double, {}, "/x"),
        (double, {"x": "many"}, "/x"),
        (double, {"x": 1, "y~/z": 1}, "/y~0~1z"),
        (double, [1], ""),
        (price, {"rooms": None}, "/rooms"),
    ],
)
def test_a_body_that_does_not_match_is_answered_with_where(
    serving: Serving, function: Any, body: Any, pointer: str
) -> None:
    reply = serving.answer(function, call(body))
    assert reply.outcome is Outcome.INVALID
    assert reply.value["errors"][0]["pointer"] == pointer
    assert reply.value["detail"].startswith(pointer or "the body")


def test_the_errors_of_one_body_are_bounded_but_counted(serving: Serving) -> None:
    reply = serving.answer(double, call({"x": 1} | {f"y{n}": n for n in range(500)}))
    assert len(reply.value["errors"]) == 100
    assert "(and 499 more)" in reply.value["detail"]


@pytest.mark.parametrize("body", [b"{", b"\xff", b"no"])
def test_a_body_that_is_not_json_is_another_problem_than_one_that_does_not_match(
    serving: Serving, body: bytes
) -> None:
    assert serving.answer(double, call(body)).outcome is Outcome.MALFORMED


def test_what_was_sent_is_not_sent_back(serving: Serving) -> None:
    """A body may hold secrets, and problems are logged."""
    reply = serving.answer(double, call({"x": "my-password"}))
    assert "my-password" not in json.dumps(reply.value)


# --- what functions do -----------------------------------------------------------------------


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raise_(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("error", "outcome", "detail"),
    [
        (ValueError("too small"), Outcome.FAILED, "ValueError: too small"),
        (SystemExit(3), Outcome.FAILED, "sys.exit(3)"),
        (KeyboardInterrupt(), Outcome.FAILED, "KeyboardInterrupt"),
        (GeneratorExit(), Outcome.FAILED, "GeneratorExit"),
        (OddError(), Outcome.FAILED, "OddError"),
        (RecursionError("deep"), Outcome.FAILED, "RecursionError: deep"),
        (Cancelled(), Outcome.CANCELLED, "cancelled"),
    ],
)
def test_whatever_a_function_raises_is_its_answer_and_the_next_call_runs(
    serving: Serving, error: BaseException, outcome: Outcome, detail: str
) -> None:
    @skipper.data
    def f(fail: bool) -> int:
        return raise_(error) if fail else 1

    failed, fine = serving.answers(f, call({"fail": True}, 1), call({"fail": False}, 2))
    assert failed.outcome is outcome
    assert detail in failed.value["detail"]
    assert (fine.outcome, fine.value) == (Outcome.OK, 1)


def test_a_failure_has_its_class_and_the_users_own_frames(serving: Serving) -> None:
    @skipper.data
    def f() -> Any:
        return raise_(LookupError("nothing there"))

    problem = serving.answer(f, call({})).value
    assert problem["exception"] == "LookupError"
    assert "raise error" in problem["traceback"]
    assert "runtime/skipper" not in problem["traceback"]


def test_a_validator_that_breaks_is_a_failure_of_that_call_alone(serving: Serving) -> None:
    bad, good = serving.answers(price, call({"rooms": 101}, 1), call({"rooms": 2}, 2))
    assert (bad.outcome, bad.value["exception"]) == (Outcome.FAILED, "RuntimeError")
    assert good.value == 3.0


@pytest.mark.parametrize("value", [object(), "\ud800", {"deep": [object()]}])
def test_a_value_that_is_not_json_fails_the_call(serving: Serving, value: Any) -> None:
    @skipper.data
    def f() -> Any:
        return value

    reply = serving.answer(f, call({}))
    assert reply.outcome is Outcome.FAILED
    assert "is not JSON" in reply.value["detail"]


def test_arrays_are_answered_as_lists(serving: Serving) -> None:
    @skipper.data
    def f() -> Any:
        return {"y": np.arange(3), "s": np.float32(0.5)}

    assert serving.answer(f, call({})).value == {"y": [0, 1, 2], "s": 0.5}


def test_what_a_call_has_printed_is_out_before_its_answer(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stream:
        flushed = 0

        def write(self, _: str) -> None: ...

        def flush(self) -> None:
            self.flushed += 1

    stream = Stream()
    monkeypatch.setattr(sys, "stdout", stream)
    serving.run(double, call({"x": 1}))
    monkeypatch.undo()
    assert stream.flushed == 1


def test_a_closed_output_does_not_stop_an_instance(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    answers = serving.answers(double, call({"x": 1}, 1), call({"x": 2}, 2))
    monkeypatch.undo()
    assert [reply.value for reply in answers] == [2, 4]


# --- the run ---------------------------------------------------------------------------------


@skipper.data
def reports(*, run: skipper.Run) -> Any:
    run.progress(1, 2, loss=np.float64(0.5))
    run.metric("rmse", 0.1, 3)
    run.log("half way")
    deadline = None if run.deadline is None else run.deadline > 0
    return [run.task_id, run.attempt, run.request_id, deadline, run.cancelled]


def test_a_direct_call_has_a_request_and_a_deadline_but_no_task(serving: Serving) -> None:
    reply = serving.answer(reports, call({}, context="req-9", budget_ms=60_000))
    assert reply.value == [None, 1, "req-9", True, False]


def test_an_attempt_knows_its_task(serving: Serving) -> None:
    context = calls.task_context("task-1", 3, None)
    reply = serving.answer(reports, call({}, flags=calls.TASK, context=context))
    assert reply.value == ["task-1", 3, None, None, False]


def test_a_request_id_may_hold_whatever_ids_hold(serving: Serving) -> None:
    context = calls.task_context("task-1", 3, "a/b/c")
    reply = serving.answer(reports, call({}, flags=calls.TASK, context=context))
    assert reply.value[:3] == ["task-1", 3, "a/b/c"]


def test_words_are_sent_with_the_calls_id_before_its_answer(serving: Serving) -> None:
    *events, reply = serving.run(reports, call({}, 5))
    assert {(frame.kind, frame.id) for frame in events} == {(FrameKind.EVENT, 5)}
    sent = [json.loads(frame.payload) for frame in events]
    assert [event["type"] for event in sent] == ["progress", "metric", "log"]
    assert sent[0]["data"] == {"done": 1, "total": 2, "loss": 0.5}
    assert all(event["at"] > 1_000_000_000 for event in sent)
    assert reply.id == 5


def task(body: Any, id_: int = 1) -> tuple[int, int, bytes]:
    return call(body, id_, flags=calls.TASK, context=calls.task_context("t1", 1, None))


def test_a_loss_that_is_not_a_number_is_json_that_everybody_reads(
    serving: Serving,
) -> None:
    @skipper.training
    def diverge(*, run: skipper.Run) -> skipper.Model:
        run.progress(1, 2, loss=math.nan)
        run.metric("loss", math.inf)
        return skipper.Model("scale", {}, metrics={"loss": math.nan})

    progress, metric, model, reply = serving.run(diverge, task({}))
    assert strictly(progress.payload)["data"]["loss"] is None
    assert strictly(metric.payload)["data"]["value"] is None
    assert strictly(model.payload)["metrics"] == {"loss": None}
    assert strictly(calls.parse_reply(reply.payload)[2]) == 0, "the first model's place"


def strictly(text: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_cancel_is_seen_while_the_function_runs_and_forgotten_after(serving: Serving) -> None:
    first, second = serving.answers(reports, call({}, 1), (FrameKind.CANCEL, 1, b""), call({}, 2))
    assert first.value[-1] is True
    assert second.value[-1] is False


# --- streams ---------------------------------------------------------------------------------


@skipper.data
def count(n: int, fail_at: int = -1) -> Iterator[int]:
    for i in range(n):
        if i == fail_at:
            raise ValueError(f"at {i}")
        yield i


def test_a_stream_names_what_serves_it_then_each_item_then_an_empty_answer(
    serving: Serving,
) -> None:
    served, *items, reply = serving.run(count, call({"n": 3}, 4, flags=calls.STREAM))
    assert served == (FrameKind.SERVED, 4, CODE.encode())
    assert items == [
        (FrameKind.ITEM, 4, b"0"),
        (FrameKind.ITEM, 4, b"1"),
        (FrameKind.ITEM, 4, b"2"),
    ]
    assert parse(reply) == (Outcome.OK, CODE, None)


def test_without_a_stream_a_generators_items_are_one_array(serving: Serving) -> None:
    whole, none = serving.answers(count, call({"n": 3}, 1), call({"n": 0}, 2))
    assert (whole.value, none.value) == ([0, 1, 2], [])


def test_a_stream_that_breaks_ends_with_what_it_raised(serving: Serving) -> None:
    _, *items, reply = serving.run(count, call({"n": 5, "fail_at": 2}, flags=calls.STREAM))
    assert [frame.payload for frame in items] == [b"0", b"1"]
    assert parse(reply).value["detail"] == "ValueError: at 2"


def test_a_cancelled_stream_stops_and_is_cleaned_up(serving: Serving) -> None:
    closed = []

    @skipper.data
    def endless() -> Iterator[int]:
        try:
            yield from iter(int, 1)
        finally:
            closed.append(True)

    sent = (
        call({}, 1, flags=calls.STREAM),
        (FrameKind.CANCEL, 1, b""),
        call({"x": 1}, 2),
    )
    first, second = serving.answers(endless, *sent)
    assert (first.outcome, second.outcome) == (Outcome.CANCELLED, Outcome.INVALID)
    assert closed == [True]


def test_a_stream_that_nobody_reads_stops_after_its_window(serving: Serving) -> None:
    made = []

    @skipper.data
    def many() -> Iterator[int]:
        for i in range(10_000):
            made.append(i)
            yield i

    window = frames.FIRST_WINDOW // frames.LEAST
    received = serving.run(many, call({}, 1, flags=calls.STREAM), until=window + 1)
    assert [frame.kind for frame in received] == [FrameKind.SERVED] + [FrameKind.ITEM] * window
    assert len(made) == window + 1


def test_a_stream_of_large_items_that_nobody_reads_makes_one_more_than_it_sends(
    serving: Serving,
) -> None:
    made = []

    @skipper.data
    def many() -> Iterator[str]:
        for i in range(10):
            made.append(i)
            yield "x" * frames.WINDOW

    received = serving.run(many, call({}, 1, flags=calls.STREAM), until=2)
    assert [frame.kind for frame in received] == [FrameKind.SERVED, FrameKind.ITEM]
    assert len(made) == 2


# --- models ----------------------------------------------------------------------------------


@skipper.inference
def scaled(x: float, *, net: Annotated[dict[str, float], skipper.Loaded("scale")]) -> float:
    return x * net["by"]


def test_calls_are_given_the_model_that_the_instance_holds_and_replies_name_it(
    serving: Serving,
) -> None:
    saved = serving.models.save(Model("scale", {"by": 2.0}))
    serving.models.put(ModelRef(name="scale", version=7, **saved))
    assert serving.answer(scaled, call({"x": 1})) == (Outcome.OK, f"{CODE} scale@7", 2.0)


@skipper.training
def train(good: bool = True) -> skipper.Model:
    value: Any = {"by": 4.0} if good else object()
    return skipper.Model("scale", value, metrics={"rmse": np.float32(0.5)})


def test_a_direct_call_cannot_publish_a_model(serving: Serving) -> None:
    reply = serving.answer(train, call({}))
    assert reply.outcome is Outcome.FAILED
    assert "only a task publishes a model" in reply.value["detail"]


def test_a_returned_model_is_stored_and_announced_before_the_answer(serving: Serving) -> None:
    event, reply = serving.run(train, task({}, 3))
    model = json.loads(event.payload)
    assert (event.kind, event.id, model["type"]) == (FrameKind.EVENT, 3, "model")
    assert model["metrics"] == {"rmse": 0.5}
    serving.models.put(ModelRef(version=1, **model["data"]))
    assert serving.models.injected({"net": "scale"}) == {"net": {"by": 4.0}}
    assert parse(reply).outcome is Outcome.OK


def test_a_model_that_no_plugin_saves_fails_the_training(serving: Serving) -> None:
    reply = serving.answer(train, task({"good": False}))
    assert reply.outcome is Outcome.FAILED
    assert "no plugin saves value, a builtins.object" in reply.value["detail"]
    assert "model 'scale'" in reply.value["detail"]


# --- calls of its own ------------------------------------------------------------------------


def test_a_function_calls_another_through_its_host_and_is_known_there(serving: Serving) -> None:
    @skipper.data
    def outer(x: int) -> int:
        return double.remote(x) + 1

    connect_to(HostCaller(serving.link))
    answer = frames.pack(FrameKind.REPLY, OWN | 1, calls.reply(Outcome.OK, b"", b"8"))
    serving.theirs.sendall(
        frames.pack(*call({"x": 4}, 1, depth=2, context="req-7", key="me")) + answer
    )
    try:
        made, reply = serving.run(outer, until=2)
    finally:
        connect_to(None)
    head, at = calls.parse_call(made.payload)
    assert (made.kind, made.id) == (FrameKind.CALL, OWN | 1)
    assert (head.name, head.depth, head.context) == ("test_runner.double", 3, "req-7/")
    assert head.key == "me", "it is sent by its caller's key"
    assert head.budget_ms == 0
    assert json.loads(made.payload[at:]) == {"x": 4}
    assert parse(reply).value == 9


@pytest.fixture
def connected(serving: Serving) -> Iterator[None]:
    connect_to(HostCaller(serving.link))
    yield
    connect_to(None)


def answered(frame: Frame) -> bytes:
    """The host's answer to a call of the instance's own."""
    if frame.kind != FrameKind.CALL:
        return b""
    return frames.pack(FrameKind.REPLY, frame.id, calls.reply(Outcome.OK, b"", b'{"id": "t1"}'))


@pytest.mark.usefixtures("connected")
def test_a_call_passes_on_what_is_left_of_its_time(serving: Serving) -> None:
    @skipper.data
    def outer() -> None:
        double.remote(1)
        double.spawn(1).result(timeout=1.0)
        double.spawn(1).result(timeout=100.0)

    received = serving.run(outer, call({}, budget_ms=5000), react=answered)
    budgets = [
        calls.call_key(frame.payload).budget_ms
        for frame in received
        if frame.kind == FrameKind.CALL
    ]
    direct, _, waits, _, waits_longer = budgets
    assert 4000 < direct <= 5000
    assert waits == 1000
    assert 4000 < waits_longer <= 5000


@pytest.mark.usefixtures("connected")
def test_a_call_whose_time_is_over_calls_nobody(serving: Serving) -> None:
    @skipper.data
    def outer() -> str:
        while caller.current.get().ends > time.monotonic():
            time.sleep(0.001)
        try:
            double.remote(1)
        except TimeoutError as error:
            return str(error)
        return ""

    (reply,) = serving.run(outer, call({}, budget_ms=1))
    assert "deadline" in parse(reply).value


@pytest.mark.usefixtures("connected")
def test_a_batch_passes_on_the_time_of_who_came_last(serving: Serving) -> None:
    @skipper.inference(batch=2)
    def outer(x: list[int]) -> list[Any]:
        return [double.remote(n) for n in x]

    sent = batch(call({"x": 1}, 1, budget_ms=1000), call({"x": 2}, 2, budget_ms=5000))
    received = serving.run(outer, sent, react=answered)
    budgets = [
        calls.call_key(frame.payload).budget_ms
        for frame in received
        if frame.kind == FrameKind.CALL
    ]
    assert all(4000 < budget <= 5000 for budget in budgets)


# --- signals ---------------------------------------------------------------------------------


def test_term_stops_the_call_that_runs_and_no_other_is_begun(serving: Serving) -> None:
    cleaned = []

    @skipper.data
    def f(term: bool) -> int:
        try:
            if term:
                os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(term)
        return 1

    sent = call({"term": True}, 1), call({"term": False}, 2)
    (only,) = serving.run(f, *sent, until=1)
    assert parse(only).outcome is Outcome.CANCELLED
    assert cleaned == [True]


def test_term_ends_an_idle_instance(serving: Serving) -> None:
    given = serving.calls(double)
    host = threading.Thread(target=term_when_answered, args=(serving,))
    serving.theirs.sendall(frames.pack(*call({"x": 1})))
    host.start()
    with own_signals(), pytest.raises(SystemExit) as ended:
        runner.serve(serving.link, given)
    host.join()
    assert ended.value.code == 0


def term_when_answered(serving: Serving) -> None:
    """Once it has answered a call it is idle, and its handler stands."""
    assert serving.theirs.recv(1 << 16)
    os.kill(os.getpid(), signal.SIGTERM)


# --- batches ---------------------------------------------------------------------------------


@skipper.inference(batch=3)
def halves(x: list[int]) -> list[Any]:
    if 13 in x:
        raise ValueError("13 came in")
    return [ZeroDivisionError("no half of 0") if not n else n / 2 for n in x]


def batch(*given: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    return FrameKind.BATCH, 0, b"".join(frames.pack(*one) for one in given)


def test_a_batch_runs_as_one_and_each_caller_gets_its_own(serving: Serving) -> None:
    received = serving.run(halves, batch(*(call({"x": n}, n) for n in (2, 4, 6))))
    assert received[0] == (FrameKind.SIZE, 3, b"")
    assert {f.id: parse(f).value for f in received[1:]} == {2: 1.0, 4: 2.0, 6: 3.0}


def test_in_a_batch_only_whose_body_is_wrong_is_refused(serving: Serving) -> None:
    replies = serving.answers(halves, batch(call({"x": 2}, 1), call({"y": 2}, 2), call(b"{", 3)))
    assert [r.outcome for r in replies] == [Outcome.OK, Outcome.INVALID, Outcome.MALFORMED]
    assert replies[0].value == 1.0


def test_in_a_batch_an_exception_in_the_place_of_a_value_fails_that_call_alone(
    serving: Serving,
) -> None:
    good, bad = serving.answers(halves, batch(call({"x": 2}, 1), call({"x": 0}, 2)))
    assert good.value == 1.0
    assert (bad.outcome, bad.value["exception"]) == (Outcome.FAILED, "ZeroDivisionError")


@pytest.mark.parametrize("culprits", [{1}, {8}, {3, 6}, {4, 5}, set(range(1, 9))])
def test_what_a_batch_raises_fails_whom_it_comes_from_alone(
    serving: Serving, culprits: set[int]
) -> None:
    runs: list[int] = []

    @skipper.inference(batch=8)
    def picky(x: list[int]) -> list[int]:
        runs.append(len(x))
        if odd := culprits.intersection(x):
            raise ValueError(f"{min(odd)} came in")
        return x

    replies = serving.answers(picky, batch(*(call({"x": n}, n) for n in range(1, 9))))
    for n, reply in enumerate(replies, 1):
        if n in culprits:
            assert (reply.outcome, reply.value["exception"]) == (Outcome.FAILED, "ValueError")
            assert f"{n} came in" in reply.value["detail"]
        else:
            assert (reply.outcome, reply.value) == (Outcome.OK, n)
    assert len(runs) <= 2 * 8 - 1
    assert len(culprits) > 1 or len(runs) == 7, "each half of those that fail, once"


def test_of_many_items_in_one_body_what_one_raises_is_its_own(serving: Serving) -> None:
    items = {"items": [{"x": 2}, {"x": 13}, {"x": 4}]}
    first, wrong, last = serving.answer(halves, call(items)).value["items"]
    assert (first, last) == (1.0, 2.0)
    assert "13 came in" in wrong["error"]["detail"]


def test_arrays_that_do_not_fit_together_are_batches_of_their_own(serving: Serving) -> None:
    @skipper.inference(batch=4)
    def total(x: np.ndarray) -> np.ndarray:
        return np.asarray(x.sum(axis=1))

    sent = batch(call({"x": [1, 2]}, 1), call({"x": [1, 2, 3]}, 2), call({"x": [4]}, 3))
    assert [reply.value for reply in serving.answers(total, sent)] == [3, 6, 4]


Row = Annotated[np.ndarray, skipper.Array("float32", (None, 2))]


def test_arrays_of_a_batch_are_one_and_each_caller_gets_its_own(serving: Serving) -> None:
    shapes: list[Any] = []

    @skipper.inference(batch=4)
    def total(x: Row, weight: list[int]) -> np.ndarray:
        shapes.append((x.shape, x.dtype, weight))
        return np.asarray(x.sum(axis=1))

    sent = batch(*(call({"x": [n, 0.5], "weight": n}, n) for n in (1, 2, 3)))
    assert [r.value for r in serving.answers(total, sent)] == [1.5, 2.5, 3.5]
    assert shapes == [((3, 2), np.dtype("float32"), [1, 2, 3])]


@pytest.mark.parametrize("wrong", [[1], ["a", 2], [True, False], {"file": "f"}, None, [[1, 2]]])
def test_of_arrays_only_whose_is_wrong_is_refused(serving: Serving, wrong: Any) -> None:
    @skipper.inference(batch=4)
    def total(x: Row) -> np.ndarray:
        return np.asarray(x.sum(axis=1))

    sent = batch(call({"x": [1, 2]}, 1), call({"x": wrong}, 2), call({"x": [3.5, 4]}, 3))
    replies = serving.answers(total, sent)
    assert [r.outcome for r in replies] == [Outcome.OK, Outcome.INVALID, Outcome.OK]
    assert [replies[0].value, replies[2].value] == [3, 7.5]


def test_what_arrays_of_a_batch_raise_runs_once_for_all_and_then_for_halves(
    serving: Serving,
) -> None:
    sizes: list[int] = []

    @skipper.inference(batch=4)
    def picky(x: Row) -> np.ndarray:
        sizes.append(len(x))
        if (x == 3).any():
            raise ValueError("three")
        return np.asarray(x.sum(axis=1))

    replies = serving.answers(picky, batch(*(call({"x": [n, 0]}, n) for n in (1, 2, 3, 4))))
    assert [r.outcome is Outcome.OK for r in replies] == [True, True, False, True]
    assert sizes == [4, 2, 2, 1, 1]


def test_a_batch_is_not_run_again_where_time_would_not_do(serving: Serving) -> None:
    runs: list[int] = []

    @skipper.inference(batch=2)
    def slow(x: list[int]) -> list[int]:
        runs.append(len(x))
        time.sleep(0.02)
        raise ValueError("no")

    sent = batch(call({"x": 1}, 1, budget_ms=30), call({"x": 2}, 2))
    assert {reply.outcome for reply in serving.answers(slow, sent)} == {Outcome.FAILED}
    assert runs == [2]


@pytest.mark.parametrize("raised", [skipper.DeadlineError("late"), SystemExit(1)])
def test_what_comes_from_no_item_is_every_ones_and_runs_once(
    serving: Serving, raised: BaseException
) -> None:
    runs: list[int] = []

    @skipper.inference(batch=2)
    def ending(x: list[int]) -> list[int]:
        runs.append(len(x))
        raise raised

    replies = serving.answers(ending, batch(call({"x": 1}, 1), call({"x": 2}, 2)))
    assert Outcome.OK not in {reply.outcome for reply in replies}
    assert runs == [2]


def test_many_items_in_one_body_run_in_batches_and_are_answered_in_order(serving: Serving) -> None:
    items = {"items": [{"x": n} for n in (2, 4, 0, 6, 8)]}
    received = serving.run(halves, call(items, 1))
    assert [f.id for f in received if f.kind == FrameKind.SIZE] == [3, 2]
    answers = parse(received[-1]).value["items"]
    assert [answers[0], answers[1], answers[3], answers[4]] == [1.0, 2.0, 3.0, 4.0]
    assert answers[2]["error"]["exception"] == "ZeroDivisionError"
    assert "traceback" not in answers[2]["error"]


def test_of_many_items_one_that_does_not_match_fails_alone(serving: Serving) -> None:
    items = {"items": [{"x": 2}, {"x": "?"}, {"y": 1}, {"x": 4}]}
    received = serving.run(halves, call(items, 1))
    assert [f.id for f in received if f.kind == FrameKind.SIZE] == [2], "only what matches is run"
    first, wrong, odd, last = parse(received[-1]).value["items"]
    assert (first, last) == (1.0, 2.0)
    assert wrong["error"]["errors"][0]["pointer"] == "/x"
    assert odd["error"]["detail"].startswith("/x: ")


def test_no_items_are_answered_with_none_and_nothing_runs(serving: Serving) -> None:
    (reply,) = serving.run(halves, call({"items": []}, 1))
    assert parse(reply) == (Outcome.OK, CODE, {"items": []})


def test_many_items_may_be_a_task_as_single_ones_may(serving: Serving) -> None:
    items = {"items": [{"x": 2}, {"x": 4}]}
    assert serving.answer(halves, task(items, 3)).value == {"items": [1.0, 2.0]}


def test_an_item_error_fails_its_item_with_the_reason(serving: Serving) -> None:
    @skipper.inference(batch=4)
    def picky(x: list[int]) -> list[Any]:
        return [skipper.ItemError(f"{n} is odd") if n % 2 else n for n in x]

    good, bad = serving.answers(picky, batch(call({"x": 2}, 1), call({"x": 3}, 2)))
    assert good.value == 2
    assert (bad.outcome, bad.value["exception"]) == (Outcome.FAILED, "ItemError")
    assert "3 is odd" in bad.value["detail"]


def all_at_once(x: list[int], y: list[int]) -> list[int]:
    return [sum(x)] * len(y)


def test_another_function_may_run_the_batches_of_one_of_single_items(serving: Serving) -> None:
    @skipper.inference(batch=4, batch_with=all_at_once)
    def single(x: int, y: int = 1) -> int:
        raise AssertionError("the one that takes lists runs")

    sent = batch(call({"x": 1}, 1), call({"x": 2, "y": 5}, 2))
    assert [reply.value for reply in serving.answers(single, sent)] == [3, 3]


@pytest.mark.parametrize("returned", ["ab", b"ab", {1: 1, 2: 2}, {1, 2}])
def test_a_batch_is_not_answered_with_what_has_parts_but_is_no_list(
    serving: Serving, returned: Any
) -> None:
    @skipper.inference(batch=4)
    def odd(x: list[int]) -> Any:
        return returned

    replies = serving.answers(odd, batch(call({"x": 1}, 1), call({"x": 2}, 2)))
    assert {reply.outcome for reply in replies} == {Outcome.FAILED}
    assert "not with a " + type(returned).__name__ in replies[0].value["detail"]


def test_a_batch_may_be_answered_with_an_array(serving: Serving) -> None:
    @skipper.inference(batch=4)
    def doubled(x: list[int]) -> Any:
        return np.array(x) * 2

    replies = serving.answers(doubled, batch(call({"x": 1}, 1), call({"x": 2}, 2)))
    assert [reply.value for reply in replies] == [2, 4]


def test_a_function_that_returns_too_few_values_fails_its_batch(serving: Serving) -> None:
    @skipper.inference(batch=4)
    def short(x: list[int]) -> list[int]:
        return x[:-1]

    replies = serving.answers(short, batch(call({"x": 1}, 1), call({"x": 2}, 2)))
    assert {r.outcome for r in replies} == {Outcome.FAILED}
    assert "a batch of 2 items was answered with 1 values" in replies[0].value["detail"]


# --- which failures may be tried again --------------------------------------------------------


class OutOfReachError(OSError):
    pass


@pytest.mark.parametrize(
    ("kinds", "error", "is_retried"),
    [
        (None, ValueError, True),
        (OSError, OSError, True),
        (OSError, OutOfReachError, True),
        (OSError, ValueError, False),
        ((KeyError, OSError), OutOfReachError, True),
        ("OSError", OutOfReachError, True),
        ("OutOfReachError", OutOfReachError, True),
        ("builtins.OSError", OutOfReachError, True),
        ("elsewhere.OSError", OutOfReachError, False),
        (("TimeoutError", KeyError), ValueError, False),
        (Exception, SystemExit, False),
    ],
)
def test_a_failure_has_whether_it_may_be_tried_again(
    serving: Serving, kinds: Any, error: type[BaseException], is_retried: bool
) -> None:
    options = {} if kinds is None else {"retries": 1, "retry_on": kinds}

    @skipper.training(**options)
    def fails() -> None:
        raise error("no")

    reply = serving.answer(fails, call())
    assert reply.outcome is Outcome.FAILED
    assert reply.value.get("retryable", True) is is_retried


# --- too much --------------------------------------------------------------------------------


@skipper.data
def repeat(times: int) -> str:
    return "x" * times


@skipper.data
def endless() -> Iterator[str]:
    while True:
        yield "x" * 100


@skipper.data(batch=2)
def repeat_each(times: list[int]) -> list[str]:
    return ["x" * each for each in times]


def test_a_value_beyond_the_limit_is_refused_with_both_sizes(serving: Serving) -> None:
    serving.max_result = 1 << 20
    fits, too_large = serving.answers(
        repeat, call({"times": (1 << 20) - 2}, 1), call({"times": 1 << 20}, 2)
    )
    assert fits.outcome is Outcome.OK
    assert (too_large.outcome, too_large.value["exception"]) == (Outcome.FAILED, "TooLargeError")
    assert "1.0 MiB of JSON; at most 1 MiB" in too_large.value["detail"]


def test_an_endless_array_is_refused_as_soon_as_it_is_too_large(serving: Serving) -> None:
    serving.max_result = 10_000
    assert "at most" in serving.answer(endless, call({})).value["detail"]


def test_an_item_of_a_stream_is_measured_alone(serving: Serving) -> None:
    serving.max_result = 50
    served, end = serving.run(endless, call({}, flags=calls.STREAM), until=2)
    assert served.kind == FrameKind.SERVED
    assert parse(end).value["exception"] == "TooLargeError"


def test_in_a_batch_each_value_is_measured_alone_and_all_items_of_a_body_together(
    serving: Serving,
) -> None:
    serving.max_result = 100
    fits, too_large, items = serving.answers(
        repeat_each,
        call({"times": 50}, 1),
        call({"times": 100}, 2),
        call({"items": [{"times": 50}, {"times": 50}]}, 3),
    )
    assert [fits.outcome, too_large.outcome, items.outcome] == [
        Outcome.OK,
        Outcome.FAILED,
        Outcome.FAILED,
    ]


def test_an_event_that_would_fill_the_record_is_left_out_and_that_is_told(serving: Serving) -> None:
    @skipper.data
    def reports_too_much(*, run: skipper.Run) -> str:
        for _ in range(2):
            run.progress(1, **{f"v{n}": "x" * 4000 for n in range(20)})
            run.progress(1, text="x" * MAX_EVENT)
        run.log("y" * 1000)
        return "done"

    *events, reply = serving.run(reports_too_much, call({}))
    said = [json.loads(event.payload)["data"] for event in events]
    texts = [each["text"] for each in said if each.get("stream") == "warning"]
    assert [text.partition(" ")[0] for text in texts] == ["progress", "text"]
    assert "bytes of progress" in texts[0]
    assert [each for each in said if "done" in each] == [{"done": 1, "total": None}] * 2
    assert said[-1]["text"] == "y" * 1000
    assert parse(reply).value == "done"


class Unshowable:
    """What somebody has put among figures."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("bad", [Unshowable(), {"of": Unshowable()}, "\ud800"])
def test_a_metric_that_cannot_be_recorded_loses_no_model(serving: Serving, bad: Any) -> None:
    """https://github.com/treeverse/dvclive/issues/253"""

    @skipper.training
    def fit(*, run: skipper.Run) -> skipper.Model:
        return skipper.Model("scale", {}, metrics={"bad": bad, "rmse": 0.5, "all": np.ones(2)})

    model, reply = serving.run(fit, task({}))
    assert strictly(model.payload)["metrics"] == {"rmse": 0.5, "all": [1.0, 1.0]}
    assert reply.payload[0] == Outcome.OK


class Plain(BaseModel):
    x: int


class Rich(Plain):
    more: str = "lost"


@skipper.data
def loses() -> Plain:
    return Rich(x=1)


@skipper.data(validate_output=True)
def loses_strictly() -> Plain:
    return Rich(x=1)


@skipper.data(validate_output=True)
def streams_strictly() -> Iterator[int]:
    yield 1
    yield "two"  # type: ignore[misc] # on purpose


@skipper.inference(batch=4)
def batch_loses(xs: list[int]) -> list[Plain]:
    return [Rich(x=x) for x in xs]


def test_a_value_that_loses_fields_is_answered_and_told_once_by_function_and_field(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """https://github.com/pydantic/pydantic/issues/9378"""
    answers = serving.answers(loses, call({}, 1), call({}, 2))
    assert [each.value for each in answers] == [{"x": 1}] * 2
    told = [each.message for each in caplog.records if each.name == "skipper.output"]
    assert len(told) == 1
    assert "loses: the returned value at /more is not what the hint says" in told[0]


def test_in_a_batch_it_is_told_too(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    answers = serving.answers(batch_loses, call({"xs": 1}, 1), call({"xs": 2}, 2))
    assert [each.outcome for each in answers] == [Outcome.OK] * 2
    assert sum("/more" in each.message for each in caplog.records) == 1


@pytest.mark.parametrize("function", [loses_strictly, streams_strictly])
def test_it_is_an_error_of_the_function_where_output_is_to_be_valid(
    serving: Serving, function: Any
) -> None:
    reply = serving.answer(function, call({}))
    assert reply.outcome == Outcome.FAILED
    assert "(validate_output)" in reply.value["detail"]


def test_a_call_of_another_function_is_bounded_as_a_value_is(serving: Serving) -> None:
    bounded = HostCaller(serving.link, 1 << 20)
    with pytest.raises(TooLargeError, match=r"f\.f was to be sent 1\.0 MiB of JSON; at most 1 MiB"):
        bounded.call("f.f", b"x" * ((1 << 20) + 1))


@pytest.mark.parametrize("body", [{"x" * 5000: 1}, {f"{n}" * 500: n for n in range(9)}])
def test_the_problem_of_a_body_does_not_grow_with_it(
    serving: Serving, body: dict[str, int]
) -> None:
    reply = serving.answer(repeat, call(body))
    assert reply.outcome is Outcome.INVALID
    assert all(len(error["pointer"]) <= 1000 for error in reply.value["errors"])
    assert len(reply.value["detail"]) < 2100


@pytest.mark.parametrize(
    ("flags", "context", "parent"),
    [
        (0, "req-1", ""),
        (calls.TASK, "task-1/2/req-1", "task-1"),
        (calls.CHILD, "task-1/req-1", "task-1"),
    ],
)
def test_what_a_call_starts_is_part_of_the_task_that_the_call_is_part_of(
    serving: Serving, flags: int, context: str, parent: str
) -> None:
    @skipper.data
    def family(*, run: skipper.Run) -> list[Any]:
        known = caller.current.get()
        return [known.parent, known.request_id, run.request_id, run.task_id]

    reply = serving.answer(family, call({}, flags=flags, context=context))
    task_id = "task-1" if flags == calls.TASK else None
    assert reply.value == [parent, "req-1", "req-1", task_id]
