import json
from pathlib import Path
from typing import Any

import pytest

from skipper.blobs import BlobStore
from skipper.ledger.records import Result
from skipper.outcomes import Outcome
from skipper.task import State, Task
from skipper.tasks.results import TaskReply, file_of, reply_of
from skipper.values.envelope import MEDIA_TYPE, Envelope, Part, as_body
from skipper.values.store import ValueStore
from skipper.values.value import Value

SERVED = b"c0de a@1 b@2"


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "blobs"))


@pytest.fixture
def values(blobs: BlobStore) -> ValueStore:
    return ValueStore(blobs, 16)


def ended(state: State, value: Value | None = None, **of: Any) -> Result:
    task = Task(
        id="t",
        function="f.f",
        kind="data",
        pool="cpu",
        state=state,
        created_at=0.0,
        available_at=0.0,
        code="c0de",
        model="a@1 b@2",
        **of,
    )
    return Result(task=task, value=value)


async def test_a_task_that_succeeded_answers_its_value_wherever_it_is(
    blobs: BlobStore, values: ValueStore
) -> None:
    for value, body in (
        (Value(inline=b"7"), b"7"),
        (Value(ref=blobs.put(b'"large"')), b'"large"'),
        (None, b"null"),
    ):
        reply = await reply_of(ended(State.SUCCEEDED, value), values)
        assert reply == TaskReply(outcome=Outcome.OK, served=SERVED, body=body)


async def test_a_value_is_answered_as_what_it_is(values: ValueStore) -> None:
    table = Value(inline=b"a,b\n", media_type="text/csv")
    assert (await reply_of(ended(State.SUCCEEDED, table), values)).media_type == "text/csv"


async def test_a_value_that_is_lost_is_a_problem(
    blobs: BlobStore, values: ValueStore, tmp_path: Path
) -> None:
    damaged = blobs.put(b'"large"')
    path = tmp_path / "blobs" / damaged[:2] / damaged
    path.chmod(0o600)
    path.write_bytes(b'"larfe"')
    for ref, said in (("0" * 64, "is no longer stored"), (damaged, "is damaged")):
        reply = await reply_of(ended(State.SUCCEEDED, Value(ref=ref)), values)
        assert reply.outcome is Outcome.UNAVAILABLE
        assert json.loads(reply.body)["detail"].startswith(f"the result {said}")


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (State.FAILED, Outcome.FAILED),
        (State.TIMED_OUT, Outcome.TIMED_OUT),
        (State.CANCELLED, Outcome.CANCELLED),
        (State.CRASHED, Outcome.DIED),
        (State.EXPIRED, Outcome.TIMED_OUT),
    ],
)
async def test_any_other_end_is_answered_as_a_direct_call_would_be(
    state: State, outcome: Outcome, values: ValueStore
) -> None:
    reply = await reply_of(ended(state), values)
    assert (reply.outcome, json.loads(reply.body)["detail"]) == (outcome, f"the task ended {state}")


async def test_the_error_of_a_task_names_its_outcome_itself(values: ValueStore) -> None:
    error = {"detail": "no model yet", "outcome": "unavailable", "exception": "E"}
    reply = await reply_of(ended(State.FAILED, error=error), values)
    assert reply.outcome is Outcome.UNAVAILABLE
    assert json.loads(reply.body) == {"detail": "no model yet", "exception": "E"}


def stored(part: Part) -> Value:
    return Value(inline=as_body(Envelope(parts=(part,))), media_type=MEDIA_TYPE, size=part.size)


def test_a_large_result_is_the_file_that_it_is_stored_as() -> None:
    picture = Part(media_type="image/png", size=5, name="a.png", ref="0" * 64)
    assert file_of(stored(picture)) == picture
    text = file_of(Value(ref="1" * 64, size=7))
    assert text is not None
    assert (text.media_type, text.size, text.ref) == ("application/json", 7, "1" * 64)


@pytest.mark.parametrize(
    "value",
    [
        Value(inline=b"1"),
        stored(Part(media_type="image/png", size=1, data=b"x")),
        Value(ref="0" * 64, media_type=MEDIA_TYPE),
        Value(
            inline=as_body(
                Envelope(
                    json=b"{}", parts=(Part(media_type="a/b", size=1, key="#0", ref="2" * 64),)
                )
            ),
            media_type=MEDIA_TYPE,
        ),
    ],
)
def test_what_is_small_or_a_functions_own_is_no_file(value: Value) -> None:
    assert file_of(value) is None
