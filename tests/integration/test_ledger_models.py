"""What every ledger promises of models: their versions, and which of them serves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from concurrent import futures
from dataclasses import replace
from typing import Any, Never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from skipper.errors import ConflictError, DeploymentError, KeptOutError, NotFoundError, UnfitError
from skipper.ledger import deployments, models, schema, tasks, transitions
from skipper.ledger.connection import Connection, Statement
from skipper.ledger.records import (
    Admission,
    Admit,
    Deployment,
    Fitness,
    Forced,
    ImportedModel,
    ModelVersionNew,
)
from skipper.ledger.transitions import Step
from skipper.selectors import parse
from skipper.task import State
from tests.blocking import BlockingLedger
from tests.integration.ledgers import HOST, Place, claimed, ledger, module_ledger, place, task_in

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services


# --- versions --------------------------------------------------------------------------------


def model(task_id: str, **values: Any) -> ModelVersionNew:
    usual = {"name": "boston", "digest": "d1", "format": "keras", "function": "boston.train"}
    owner = {"task_id": task_id, "attempt": 1, "host": HOST, "created_at": 7.0}
    return ModelVersionNew(**{**usual, **owner, **values})


def publish(ledger: BlockingLedger, new: ModelVersionNew) -> int | None:
    return ledger.write_now(lambda conn: models.publish(conn, new))


def test_versions_count_up_by_name(ledger: BlockingLedger) -> None:
    one, two = task_in(ledger, State.RUNNING), task_in(ledger, State.RUNNING)
    assert publish(ledger, model(one, metrics={"rmse": 3.1}, code="c1")) == 1
    assert publish(ledger, model(two, digest="d2")) == 2
    assert publish(ledger, model(one, name="digits")) == 1
    found = ledger.read_now(lambda conn: models.get(conn, "boston", 1))
    assert found is not None
    assert (found.digest, found.metrics, found.code, found.task_id) == (
        "d1",
        {"rmse": 3.1},
        "c1",
        one,
    )
    newest = ledger.read_now(lambda conn: models.latest(conn, "boston"))
    assert newest is not None
    assert (newest.version, newest.metrics) == (2, None)
    assert ledger.read_now(models.list_names) == ["boston", "digits"]
    assert ledger.read_now(lambda conn: models.latest(conn, "none")) is None
    assert ledger.read_now(lambda conn: models.get(conn, "boston", 9)) is None


def test_publishing_again_in_one_attempt_gives_the_same_version(ledger: BlockingLedger) -> None:
    task_id = task_in(ledger, State.RUNNING)
    assert publish(ledger, model(task_id)) == publish(ledger, model(task_id, digest="d9")) == 1


def test_each_step_that_a_task_saves_is_a_version_numbered_once(ledger: BlockingLedger) -> None:
    task_id = task_in(ledger, State.RUNNING)
    for _ in range(2):
        numbers = [publish(ledger, model(task_id, step=step)) for step in (0, 1, 40)]
        assert numbers == [1, 2, 3]
    assert publish(ledger, model(task_id)) == 4, "what it returns is another than what it saved"
    assert publish(ledger, model(task_id, name="digits", step=0)) == 1


def test_publishing_again_in_a_later_attempt_gives_the_same_version(ledger: BlockingLedger) -> None:
    task_id = task_in(ledger, State.RUNNING)
    assert publish(ledger, model(task_id)) == 1
    ledger.write_now(lambda conn: tasks.release(conn, HOST, None, time.time(), lost=True))
    claimed(ledger, task_id, HOST)
    assert publish(ledger, model(task_id, attempt=2, digest="d9")) == 1
    assert publish(ledger, model(task_id, attempt=2, name="another")) == 1


def test_only_the_attempt_that_owns_the_task_publishes(ledger: BlockingLedger) -> None:
    task_id = task_in(ledger, State.RUNNING)
    assert publish(ledger, model(task_id, host="host-2")) is None
    assert publish(ledger, model(task_id, attempt=2)) is None
    ledger.write_now(lambda conn: tasks.release(conn, HOST, None, time.time(), lost=True))
    assert publish(ledger, model(task_id)) is None
    assert ledger.read_now(models.list_names) == []


async def test_versions_have_no_gap_when_many_publish_at_once(
    place: Place, ledger: BlockingLedger
) -> None:
    other = place.open()
    ids = [task_in(ledger, State.RUNNING) for _ in range(12)]
    found = await asyncio.gather(
        *(
            (ledger, other)[number % 2].write(
                lambda conn, task_id=task_id: models.publish(conn, model(task_id))  # type: ignore[misc]  # binds the loop's value
            )
            for number, task_id in enumerate(ids)
        )
    )
    await asyncio.to_thread(other.close)
    assert sorted(version or 0 for version in found) == list(range(1, 13))
    rows = await ledger.read(lambda conn: models.published_since(conn, 0))
    assert [row.version for row in rows] == list(range(1, 13))


def test_numbers_of_versions_become_visible_in_order(place: Place, ledger: BlockingLedger) -> None:
    one, two = task_in(ledger, State.RUNNING), task_in(ledger, State.RUNNING)
    is_published, may_commit = threading.Event(), threading.Event()

    def publish_slowly(conn: Connection) -> None:
        models.publish(conn, model(one, name="a"))
        is_published.set()
        may_commit.wait(10)

    with place.open() as other, futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(ledger.write_now, publish_slowly)
        assert is_published.wait(10)
        second = pool.submit(publish, other, model(two, name="b"))
        assert not futures.wait([second], 0.2).done
        may_commit.set()
        assert (first.result(10), second.result(10)) == (None, 1)
    rows = ledger.read_now(lambda conn: models.published_since(conn, 0))
    assert [row.name for row in rows] == ["a", "b"]


def test_what_was_published_is_found_by_its_number(ledger: BlockingLedger) -> None:
    for name in ("a", "b", "c"):
        publish(ledger, model(task_in(ledger, State.RUNNING), name=name))
    first, *others = ledger.read_now(lambda conn: models.published_since(conn, 0))
    assert ledger.read_now(lambda conn: models.published_since(conn, first.seq)) == others
    assert [row.name for row in others] == ["b", "c"]
    assert ledger.read_now(lambda conn: models.published_since(conn, others[-1].seq)) == []


def test_versions_are_paged_newest_first(ledger: BlockingLedger) -> None:
    for _ in range(3):
        publish(ledger, model(task_in(ledger, State.RUNNING)))
    first, cursor = ledger.read_now(lambda conn: models.versions(conn, "boston", 2))
    second, end = ledger.read_now(lambda conn: models.versions(conn, "boston", 2, cursor))
    assert [row.version for row in first + second] == [3, 2, 1]
    assert end is None
    with pytest.raises(ValueError, match="cursor"):
        ledger.read_now(lambda conn: models.versions(conn, "boston", 2, "-1"))


# --- which of them serve ---------------------------------------------------------------------


def trained(ledger: BlockingLedger, name: str = "boston", versions: int = 1) -> None:
    """Publish versions of a model, each by a task of its own."""
    for _ in range(versions):
        publish(ledger, model(task_in(ledger, State.RUNNING), name=name))


def deployed(ledger: BlockingLedger, name: str = "boston") -> Deployment:
    found = ledger.read_now(lambda conn: deployments.get(conn, name))
    assert found is not None
    return found


def put(ledger: BlockingLedger, changed: Deployment) -> Deployment | None:
    return ledger.write_now(lambda conn: deployments.put(conn, changed))


def test_a_published_version_is_in_production_from_then_on(ledger: BlockingLedger) -> None:
    assert ledger.read_now(lambda conn: deployments.get(conn, "boston")) is None
    trained(ledger)
    first = deployed(ledger)
    assert (first.production, first.previous, first.revision) == (1, None, 1)
    assert (first.at, first.by, first.why) == (7.0, None, None)
    trained(ledger)
    second = deployed(ledger)
    assert (second.production, second.previous, second.revision) == (2, 1, 2)
    assert second.seq > first.seq


def test_a_version_that_is_published_again_is_not_deployed_again(ledger: BlockingLedger) -> None:
    task_id = task_in(ledger, State.RUNNING)
    publish(ledger, model(task_id))
    trained(ledger)
    before = deployed(ledger)
    publish(ledger, model(task_id))
    assert deployed(ledger) == before


def test_a_publication_that_is_refused_deploys_nothing(ledger: BlockingLedger) -> None:
    publish(ledger, model(task_in(ledger, State.RUNNING), host="host-2"))
    assert ledger.read_now(lambda conn: deployments.changed_since(conn, 0)) == []


def test_an_earlier_version_can_be_promoted_and_the_next_training_takes_over(
    ledger: BlockingLedger,
) -> None:
    trained(ledger, versions=2)
    second = deployed(ledger)
    why: dict[str, Any] = {"at": 9.0, "by": "ops", "why": "the second one drifts"}
    back = put(ledger, replace(transitions.promoted(second, 1), **why))
    assert back == deployed(ledger)
    assert (back.production, back.previous, back.revision) == (1, 2, 3)
    assert (back.at, back.by, back.why) == (9.0, "ops", "the second one drifts")
    trained(ledger)
    third = deployed(ledger)
    assert (third.production, third.previous, third.revision) == (3, 1, 4)
    assert (third.by, third.why) == (None, None)


def test_a_record_keeps_all_that_it_says(ledger: BlockingLedger) -> None:
    trained(ledger, versions=3)
    said: dict[str, Any] = {
        "candidate": 2,
        "percent": 12.5,
        "shadow": 1,
        "aliases": {"best": 2, "old": 1},
    }
    made = put(ledger, replace(deployed(ledger), **said))
    assert made is not None
    assert deployed(ledger) == made
    assert {name: getattr(made, name) for name in said} == said
    assert made.versions == (3, 2, 1)


def test_every_record_that_has_held_is_remembered(ledger: BlockingLedger) -> None:
    trained(ledger, versions=3)
    trained(ledger, "digits")

    def past(limit: int, before: int | None = None) -> list[int | None]:
        rows = ledger.read_now(lambda conn: deployments.history(conn, "boston", limit, before))
        return [row.production for row in rows]

    assert past(10) == [3, 2, 1]
    assert past(2) == [3, 2]
    assert past(2, before=2) == [1]
    (newest, *_) = ledger.read_now(lambda conn: deployments.history(conn, "boston", 1))
    assert newest == deployed(ledger)


def test_a_record_that_follows_another_revision_changes_nothing(ledger: BlockingLedger) -> None:
    trained(ledger, versions=2)
    before = deployed(ledger)
    for follows in (0, before.revision - 1, before.revision + 1):
        assert put(ledger, replace(transitions.promoted(before, 1), revision=follows)) is None
    assert deployed(ledger) == before


@pytest.mark.parametrize(
    "named", [{"production": 2}, {"candidate": 2}, {"shadow": 2}, {"aliases": {"best": 2}}]
)
def test_a_version_that_there_is_not_cannot_be_deployed(
    ledger: BlockingLedger, named: dict[str, Any]
) -> None:
    with pytest.raises(NotFoundError, match="'boston' has no version 1"):
        put(ledger, Deployment(name="boston", production=1))
    trained(ledger)
    before = deployed(ledger)
    with pytest.raises(NotFoundError, match="'boston' has no version 2"):
        put(ledger, replace(before, **named))
    assert deployed(ledger) == before


async def test_of_records_that_follow_the_same_one_one_is_put(
    place: Place, ledger: BlockingLedger
) -> None:
    await asyncio.to_thread(trained, ledger, versions=3)
    held, other = await asyncio.to_thread(deployed, ledger), place.open()
    made = await asyncio.gather(
        *(
            each.write(
                lambda conn, version=version: deployments.put(  # type: ignore[misc]  # binds the loop's value
                    conn, transitions.promoted(held, version)
                )
            )
            for version in (1, 2)
            for each in (ledger, other)
        )
    )
    await asyncio.to_thread(other.close)
    (winner,) = [one for one in made if one is not None]
    assert await asyncio.to_thread(deployed, ledger) == winner


def test_what_has_been_deployed_is_found_by_its_number_once_a_model(ledger: BlockingLedger) -> None:
    for name in ("boston", "digits", "boston"):
        trained(ledger, name)
    digits, boston = ledger.read_now(lambda conn: deployments.changed_since(conn, 0))
    assert [(each.name, each.production) for each in (digits, boston)] == [
        ("digits", 1),
        ("boston", 2),
    ]
    put(ledger, transitions.promoted(boston, 1))
    (changed,) = ledger.read_now(lambda conn: deployments.changed_since(conn, boston.seq))
    assert changed == deployed(ledger)
    assert ledger.read_now(lambda conn: deployments.changed_since(conn, changed.seq)) == []


# --- steps from record to record -------------------------------------------------------------


def change(
    ledger: BlockingLedger, step: Step, *, follows: int | None = None, name: str = "boston"
) -> Deployment:
    return ledger.write_now(lambda conn: deployments.change(conn, name, step, follows=follows))


def promoting(version: int) -> Step:
    return lambda held: transitions.promoted(held, version)


def test_a_step_is_taken_from_the_record_that_holds(ledger: BlockingLedger) -> None:
    trained(ledger, versions=3)
    before = deployed(ledger)
    made = change(ledger, transitions.rolled_back, follows=before.revision)
    assert (made.production, made.previous, made.revision) == (2, 3, before.revision + 1)
    assert made == deployed(ledger)


def test_a_step_from_another_revision_is_a_conflict(ledger: BlockingLedger) -> None:
    trained(ledger, versions=2)
    held = deployed(ledger)
    with pytest.raises(ConflictError, match="at revision 2, not at 1"):
        change(ledger, promoting(1), follows=1)
    assert deployed(ledger) == held


def test_a_step_that_changes_nothing_makes_no_revision(ledger: BlockingLedger) -> None:
    trained(ledger, versions=2)
    held = deployed(ledger)
    assert change(ledger, lambda each: replace(each, at=99.0, why="again")) == held
    assert deployed(ledger) == held


def test_a_model_that_there_is_not_has_no_record(ledger: BlockingLedger) -> None:
    with pytest.raises(NotFoundError, match="there is no model 'boston'"):
        change(ledger, promoting(1))
    with pytest.raises(NotFoundError, match="there is no model 'boston'"):
        ledger.read_now(lambda conn: models.resolve(conn, parse("boston")))


def stored(ledger: BlockingLedger, name: str, *states: Fitness) -> None:
    """Versions of a model in these states, none of which has served."""
    for number, state in enumerate(states, 1):
        row: dict[str, Any] = {"name": name, "version": number, "state": state.value}
        row |= {"digest": f"d{number}", "format": "keras", "task_id": f"t-{name}-{number}"}
        row |= {"attempt": 1, "function": "boston.train", "created_at": 7.0}
        row |= {"reason": "it is NaN", "metrics": "null"}
        ledger.write_now(lambda conn, row=row: conn.run(_INSERT, row), durable=False)  # type: ignore[misc]  # binds the loop's value


_ROW = (
    "name version state digest format task_id attempt function created_at reason metrics".split()  # noqa: SIM905 - one line
)
_INSERT = Statement(insert(schema.models), _ROW)


def test_an_unfit_version_is_not_made_to_serve(ledger: BlockingLedger) -> None:
    """triton-inference-server/server#6534: a version that cannot be loaded was taken up."""
    stored(ledger, "boston", Fitness.FIT, Fitness.UNFIT)
    held = change(ledger, promoting(1))
    steps: list[Step] = [
        promoting(2),
        lambda each: transitions.with_candidate(each, 2, 5),
        lambda each: transitions.shadowed(each, 2),
        lambda each: transitions.aliased(each, "best", 2),
    ]
    for step in steps:
        with pytest.raises(UnfitError, match="version 2 of 'boston' is unfit: it is NaN"):
            change(ledger, step)
    assert deployed(ledger) == held


def test_a_version_that_became_unfit_can_be_left_but_not_returned_to(
    ledger: BlockingLedger,
) -> None:
    stored(ledger, "boston", Fitness.FIT, Fitness.FIT)
    change(ledger, promoting(1))
    change(ledger, promoting(2))
    ledger.write_now(lambda conn: models.judge(conn, "boston", 2, Fitness.UNFIT, "it is NaN"))
    assert change(ledger, transitions.rolled_back).production == 1
    with pytest.raises(UnfitError, match="version 2"):
        change(ledger, transitions.rolled_back)


def test_a_version_that_was_removed_is_not_made_to_serve(ledger: BlockingLedger) -> None:
    stored(ledger, "boston", Fitness.FIT, Fitness.REMOVED)
    with pytest.raises(NotFoundError, match="no longer has version 2"):
        change(ledger, promoting(2))


def test_a_selector_means_the_version_that_the_record_names(ledger: BlockingLedger) -> None:
    stored(ledger, "boston", *[Fitness.FIT] * 5, Fitness.UNFIT)

    def found(text: str) -> int:
        return ledger.read_now(lambda conn: models.resolve(conn, parse(text))).version

    for text in ("boston", "boston@candidate", "boston@previous", "boston@shadow", "boston@best"):
        with pytest.raises(NotFoundError, match="model 'boston' has no "):
            found(text)
    assert found("boston@latest") == 5
    for version in (1, 2):
        change(ledger, promoting(version))
    change(ledger, lambda each: transitions.with_candidate(each, 3, 10))
    change(ledger, lambda each: transitions.shadowed(each, 4))
    change(ledger, lambda each: transitions.aliased(each, "best", 1))
    names = ("boston", "boston@previous", "boston@candidate", "boston@shadow", "boston@best")
    assert [found(name) for name in names] == [2, 1, 3, 4, 1]
    assert found("boston@6") == 6  # who pins a version is told why it is unfit elsewhere
    with pytest.raises(NotFoundError, match="no alias 'worst'; it has best"):
        found("boston@worst")
    with pytest.raises(NotFoundError, match="has no version 7"):
        found("boston@7")


def test_a_removed_version_is_not_found_and_one_is_told_why(ledger: BlockingLedger) -> None:
    stored(ledger, "boston", Fitness.REMOVED)
    with pytest.raises(NotFoundError, match="boston@1 was removed: it is NaN"):
        ledger.read_now(lambda conn: models.resolve(conn, parse("boston@1")))
    with pytest.raises(NotFoundError, match="no version that is fit"):
        ledger.read_now(lambda conn: models.resolve(conn, parse("boston@latest")))


STEPS = st.one_of(
    st.builds(promoting, st.integers(1, 4)),
    st.just(transitions.rolled_back),
    st.builds(lambda v: lambda r: transitions.with_candidate(r, v, 10), st.integers(1, 4)),
    st.builds(lambda v: lambda r: transitions.aliased(r, "best", v), st.integers(1, 4)),
)
WRITERS = st.lists(st.lists(st.tuples(STEPS, st.booleans()), max_size=5), min_size=2, max_size=4)


async def test_of_any_steps_at_once_each_revision_follows_the_one_before(
    place: Place, ledger: BlockingLedger
) -> None:
    """Any histories of promotions, rollbacks and canaries, by writers that know of each other or
    do not: revisions have no gap, and ``previous`` is what was in production before."""
    other = await asyncio.to_thread(place.open)
    names = (f"m{number}" for number in itertools.count())

    async def write(each: BlockingLedger, name: str, steps: list[tuple[Step, bool]]) -> None:
        for step, knows in steps:
            held = await each.read(lambda conn: deployments.held_of(conn, name))
            follows = held.revision if knows else None
            with contextlib.suppress(ConflictError, DeploymentError):
                await each.write(
                    lambda conn, step=step, follows=follows: deployments.change(  # type: ignore[misc]  # binds the loop's value
                        conn, name, step, follows=follows
                    ),
                    durable=False,
                )

    @settings(max_examples=1000 if place.is_sqlite else 100, deadline=None)
    @given(WRITERS)
    def check(writers: list[list[tuple[Step, bool]]]) -> None:
        name = next(names)
        stored(ledger, name, *[Fitness.FIT] * 4)
        asyncio.run(run(name, writers))
        past = ledger.read_now(lambda conn: deployments.history(conn, name, 100))[::-1]
        assert [each.revision for each in past] == list(range(1, len(past) + 1))
        for before, after in itertools.pairwise([transitions.undeployed(name), *past]):
            moved = before.production != after.production
            assert after.previous == (before.production if moved else before.previous)

    async def run(name: str, writers: list[list[tuple[Step, bool]]]) -> None:
        places = itertools.cycle([ledger, other])
        await asyncio.gather(*(write(next(places), name, steps) for steps in writers))

    await asyncio.to_thread(check)
    await asyncio.to_thread(other.close)


# --- what is let in --------------------------------------------------------------------------


def test_a_version_that_is_not_admitted_is_stored_and_does_not_serve(
    ledger: BlockingLedger,
) -> None:
    trained(ledger)
    gate = {"passed": False, "why": "rmse 9 is above 3", "against": 1}
    admit = admitting(serves=False, gate=gate)
    before, task_id = deployed(ledger), task_in(ledger, State.RUNNING)
    assert ledger.write_now(lambda conn: models.publish(conn, model(task_id), admit)) == 2
    found = ledger.read_now(lambda conn: models.get(conn, "boston", 2))
    assert found is not None
    assert found.gate == gate
    assert deployed(ledger) == before
    told = ledger.read_now(lambda conn: models.standing(conn, found))
    assert (told.serves, told.why) == (False, "rmse 9 is above 3")


def test_what_its_gate_keeps_out_answers_nobody_unless_it_is_forced(
    ledger: BlockingLedger,
) -> None:
    trained(ledger)
    admit = admitting(serves=False, gate={"passed": False, "why": "rmse 9", "against": 1})
    task_id = task_in(ledger, State.RUNNING)
    ledger.write_now(lambda conn: models.publish(conn, model(task_id), admit))
    steps: list[Step] = [promoting(2), lambda each: transitions.with_candidate(each, 2, 5)]
    for step in steps:
        with pytest.raises(KeptOutError, match="its gate keeps version 2 out: rmse 9"):
            change(ledger, step)
    assert change(ledger, lambda each: transitions.shadowed(each, 2)).shadow == 2
    found = ledger.read_now(lambda conn: models.get(conn, "boston", 2))
    assert found is not None
    forced = Forced(by="ops", why="the metric is wrong", at=9.0)
    ledger.write_now(lambda conn: models.force(conn, found, forced))
    assert change(ledger, promoting(2)).production == 2


def test_an_unfit_version_is_published_and_not_even_judged(ledger: BlockingLedger) -> None:
    def refuse(held: object) -> Never:
        raise AssertionError(held)

    task_id = task_in(ledger, State.RUNNING)
    new = model(task_id, state=Fitness.UNFIT, reason="its weights are NaN")
    assert ledger.write_now(lambda conn: models.publish(conn, new, refuse)) == 1
    assert ledger.read_now(lambda conn: models.in_production(conn, "boston")) is None


def test_a_decision_about_something_else_publishes_nothing(ledger: BlockingLedger) -> None:
    task_id = task_in(ledger, State.RUNNING)
    with pytest.raises(ConflictError, match="put in production meanwhile"):
        ledger.write_now(lambda conn: models.publish(conn, model(task_id), lambda held: None))
    assert ledger.read_now(models.list_names) == []


def test_a_version_that_is_let_in_may_begin_with_a_part_of_the_calls(
    ledger: BlockingLedger,
) -> None:
    admit = admitting(percent=10)
    for _ in range(2):
        task_id = task_in(ledger, State.RUNNING)
        ledger.write_now(lambda conn, id_=task_id: models.publish(conn, model(id_), admit))  # type: ignore[misc]  # binds the loop's value
    held = deployed(ledger)
    assert (held.production, held.candidate, held.percent) == (1, 2, 10)


def admitting(**said: Any) -> Admit:
    return lambda held: Admission(**said)


def test_what_is_imported_is_the_next_version_and_serves_nobody(ledger: BlockingLedger) -> None:
    origin = {"name": "boston", "version": 7, "by": "uid 7"}
    new = ImportedModel(
        name="m",
        digest="d" * 64,
        format="keras",
        function="boston.train",
        created_at=5.0,
        metrics={"rmse": 3.1},
        params=None,
        code=None,
        size=10,
        origin=origin,
    )
    for number in (1, 2):
        made = ledger.write_now(lambda conn: models.take_in(conn, new))
        assert (made.version, made.state, made.task_id) == (number, Fitness.STORED, "")
        assert (made.metrics, made.origin) == ({"rmse": 3.1}, origin)
    assert ledger.read_now(lambda conn: deployments.held_of(conn, "m")).production is None
    assert [each.version for each in ledger.read_now(lambda c: models.published_since(c, 0))] == [
        1,
        2,
    ]
