"""Whatever a function does, its caller gets one answer and everybody else is served."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.tree import Tree

BAD = [
    ("bad.raises", 500, "ValueError: boom"),
    ("bad.exits", 500, "sys.exit(3)"),
    ("bad.exits_at_once", 502, "code 4"),
    ("bad.segfaults", 502, "SIGSEGV"),
    ("bad.kills_itself", 502, "SIGKILL"),
    ("bad.oversleeps", 504, "deadline passed"),
    ("bad.oversleeps_awake", 504, "deadline passed"),
    ("bad.opaque", 500, "object is not JSON"),
    ("bad.raises_unprintable", 500, "Unprintable"),
    ("bad.devours", 502, "200 MiB"),
]


@pytest.mark.parametrize(("name", "status", "words"), BAD)
def test_a_bad_function_hurts_its_caller_alone(
    plain: Tree, name: str, status: int, words: str
) -> None:
    before = plain.pids()
    bystander = plain.value("bad.bystander")
    with ThreadPoolExecutor(5) as callers:
        bad = [callers.submit(plain.invoke, name) for _ in range(2)]
        others = [callers.submit(plain.value, "bad.bystander") for _ in range(30)]
        answers = [answer.result() for answer in bad]
        assert all(other.result()["pid"] for other in others)
    assert [answer.status_code for answer in answers] == [status] * 2
    assert all(words in answer.json()["detail"] for answer in answers)
    assert plain.value("bad.bystander")["pid"] == bystander["pid"]
    assert plain.pids() == before


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("bad.raises", "failed"),
        ("bad.exits", "failed"),
        ("bad.exits_at_once", "crashed"),
        ("bad.segfaults", "crashed"),
        ("bad.kills_itself", "crashed"),
        ("bad.oversleeps", "timed_out"),
        ("bad.opaque", "failed"),
        ("bad.devours", "crashed"),
    ],
)
def test_a_bad_task_ends_once_and_says_how(plain: Tree, name: str, state: str) -> None:
    task = plain.ended(plain.submit(name))
    assert (task["state"], task["attempt"]) == (state, 1)
    assert task["error"]["detail"]


def test_the_death_of_a_batch_is_told_to_all_of_it_and_the_next_is_served(plain: Tree) -> None:
    with ThreadPoolExecutor(4) as callers:
        bodies = [{"x": x} for x in (0, 1, -1, 2)]
        answers = list(callers.map(lambda body: plain.invoke("batches.fragile", body), bodies))
    assert [answer.status_code for answer in answers] == [502] * 4
    assert all("code 5" in answer.json()["detail"] for answer in answers)
    with ThreadPoolExecutor(4) as callers:
        values = list(callers.map(lambda x: plain.value("batches.fragile", {"x": x}), range(4)))
    assert values == [0, 2, 4, 6]


def test_a_function_may_close_its_output(plain: Tree) -> None:
    assert plain.value("bad.closes_everything") == "done"
    assert plain.value("bad.closes_everything") == "done"
    assert plain.value("bad.bystander")["pid"]


def test_only_the_process_that_was_called_answers(plain: Tree) -> None:
    assert [plain.value("bad.forks") for _ in range(10)] == ["parent"] * 10


def test_a_chatty_function_is_not_stopped_by_its_output(plain: Tree) -> None:
    assert plain.value("bad.chats", {"lines": 20_000}) == 20_000
