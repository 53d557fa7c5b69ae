"""Every message is read as it was written, and nothing else is."""

import json

import pytest
from pydantic import ValidationError

from skipper.cron import Timetable
from skipper.outcomes import Outcome
from skipper.pool.metrics import PoolMetrics
from skipper.spec import BrokenFile, FunctionSpec, Kind
from skipper.wire.messages import (
    Answer,
    AnyQuestion,
    CancelAnswer,
    CancelTask,
    CatalogueSnapshot,
    FunctionState,
    GetMetrics,
    GetPoolState,
    ListedFunction,
    ModelsRenewed,
    RenewModels,
    parse_question,
)
from tests.unit.wire.stand_in import POOL

SPEC = FunctionSpec(
    name="f.f",
    kind=Kind.TRAINING,
    schedule=Timetable(cron="5 4 * * *", timezone="Europe/Berlin"),
    retry_on=("OSError",),
    file="functions/f.py",
    line=1,
    code="c0de",
    input_schema={"type": "object", "properties": {"x": {"type": "number"}}},
    output_schema={},
)
CATALOGUE = CatalogueSnapshot(
    pool="cpu",
    host="cpu-0",
    loading=("*", "g"),
    functions=(ListedFunction(spec=SPEC, state=FunctionState.STALE),),
    broken=(BrokenFile(file="functions/f.py", line=3, error="NameError", functions=("f.f",)),),
)


def metrics() -> PoolMetrics:
    counted = PoolMetrics()
    counted.ended("f.f", Outcome.OK, 0.02)
    counted.batch_sizes["f.f"].observe(3)
    counted.reloads["swapped"] += 1
    return counted


METRICS = metrics().snapshot(queued=2, instances=[("f.f", "idle"), ("f.f", "idle")])
ASKED: list[tuple[AnyQuestion, Answer]] = [
    (GetPoolState(), POOL),
    (GetMetrics(), METRICS),
    (RenewModels(), ModelsRenewed()),
    (CancelTask(task_id="t1"), CancelAnswer(known=True)),
]


def test_a_catalogue_is_read_as_it_was_written() -> None:
    assert CatalogueSnapshot.parse(CATALOGUE.to_json()) == CATALOGUE


@pytest.mark.parametrize(("question", "answer"), ASKED)
def test_a_question_is_read_as_it_was_written_and_so_is_its_own_answer(
    question: AnyQuestion, answer: Answer
) -> None:
    assert parse_question(question.to_json()) == question
    assert question.parse_answer(answer.to_json()) == answer


@pytest.mark.parametrize(("question", "answer"), ASKED)
def test_the_answer_to_another_question_is_none(question: AnyQuestion, answer: Answer) -> None:
    others = [each for each, _ in ASKED if type(each) is not type(question)]
    for other in others:
        with pytest.raises(ValueError, match=r"^\w+: "):
            other.parse_answer(answer.to_json())


def test_a_member_that_this_version_does_not_know_is_named() -> None:
    whole = json.loads(CATALOGUE.to_json())
    whole["functions"][0]["spec"]["colour"] = "red"
    with pytest.raises(ValueError, match=r"^CatalogueSnapshot: functions\.0\.spec\.colour: Extra"):
        CatalogueSnapshot.parse(json.dumps(whole).encode())


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"{}", b'{"what":"weather"}', b"\xff"])
def test_what_is_no_question_is_refused_in_one_line(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"^a question that is none: [^\n]+$"):
        parse_question(payload)


def test_messages_do_not_change() -> None:
    with pytest.raises(ValidationError):
        POOL.slots = 5  # type: ignore[misc] # that is what is tested


def test_rest_shows_a_function_as_its_spec_and_its_state() -> None:
    (listed,) = CATALOGUE.functions
    assert listed.document() == json.loads(SPEC.model_dump_json()) | {
        "state": "stale",
        "problem": "",
    }


def test_rest_shows_a_pool_without_what_only_readiness_needs() -> None:
    assert list(POOL.document()) == [
        "pool",
        "host_id",
        "pid",
        "devices",
        "slots",
        "task_slots",
        "task_slots_free",
        "tasks_listed",
        "busy",
        "queued",
        "tasks_running",
        "instances",
        "templates",
        "consumer",
    ]
