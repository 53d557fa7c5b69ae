"""Functions are called without any protocol of a face: no request, no headers, no status."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from skipper import problems
from skipper.blobs import BlobStore
from skipper.gateway.calls import Dispatcher, Invocation, Preferences
from skipper.gateway.problems import Problem
from skipper.gateway.task_reader import TaskReader
from skipper.ledger import tasks
from skipper.ledger.records import Ending
from skipper.outcomes import Outcome
from skipper.settings.model import TaskSettings
from skipper.spec import BrokenFile
from skipper.task import State
from skipper.tasks.watchers import Watchers
from skipper.values.value import Value
from skipper.wire import calls as wire
from skipper.wire.frames import FIRST_WINDOW, LEAST, WINDOW
from tests.blocking import BlockingLedger
from tests.intakes import Desk
from tests.unit.gateway.played import PlayedDirectory, PlayedLink

LIMIT_S = 20.0
SERVED = b"c0de net@3"
FITS = wire.reply(Outcome.OK, b"", b"")


def replied(value: bytes) -> bytes:
    return wire.reply(Outcome.OK, SERVED, value)


def invocation(body: bytes = b'{"x": 1}', *, name: str = "f.f", age_s: float = 0.0) -> Invocation:
    return Invocation(name, body, "an-id", asyncio.get_running_loop().time() - age_s)


def direct_only(link: PlayedLink) -> Dispatcher:
    """Calls that no task comes of."""
    return over(PlayedDirectory(link))


def over(directory: PlayedDirectory) -> Dispatcher:
    nothing: Any = None
    return Dispatcher(
        cast(Any, directory), nothing, nothing, shows_tracebacks=False, terms=TaskSettings()
    )


async def called(dispatcher: Dispatcher, call: Invocation) -> tuple[bytes, bytes]:
    """What came of a direct call."""
    pending = dispatcher.send(await dispatcher.reach(call), call)
    return dispatcher.value(call, await pending.reply)


# --- direct calls ------------------------------------------------------------------------------


async def test_a_direct_call_is_a_value_and_what_served_it() -> None:
    link = PlayedLink(replied(b"7"))
    assert await called(direct_only(link), invocation()) == (SERVED, b"7")
    head, at = wire.parse_call(link.payloads[0])
    assert (head.name, head.context, link.payloads[0][at:]) == ("f.f", "an-id", b'{"x": 1}')


async def test_what_goes_wrong_is_a_problem_with_what_served_it() -> None:
    link = PlayedLink(wire.problem(Outcome.FAILED, "ValueError: no", SERVED, traceback="T"))
    with pytest.raises(Problem) as caught:
        await called(direct_only(link), invocation())
    problem = caught.value
    assert (problem.kind, problem.detail) == (problems.FUNCTION_ERROR, "ValueError: no")
    assert problem.members == {"function": "f.f", "request_id": "an-id"}
    assert problem.served == SERVED


async def test_a_function_that_may_serve_later_is_a_problem_that_knows_when() -> None:
    link = PlayedLink(wire.problem(Outcome.UNAVAILABLE, "no model yet", retry_after_s=30))
    with pytest.raises(Problem) as caught:
        await called(direct_only(link), invocation())
    assert caught.value.retry_after_s == 30


async def test_a_call_whose_time_is_over_is_not_sent() -> None:
    link = PlayedLink()
    with pytest.raises(Problem) as caught:
        await called(direct_only(link), invocation(age_s=61.0))
    assert caught.value.kind is problems.DEADLINE
    assert link.sent == []


async def test_a_call_waits_for_a_host_that_is_being_started_again() -> None:
    link = PlayedLink(replied(b"7"))
    link.is_up = False
    assert await called(direct_only(link), invocation()) == (SERVED, b"7")


async def test_a_function_whose_host_is_away_is_not_reachable_at_once() -> None:
    link = PlayedLink(replied(b"7"))
    dispatcher = direct_only(link)
    assert dispatcher.reachable("f.f") is not None
    assert dispatcher.reachable("g.g") is None
    link.is_up = False
    assert dispatcher.reachable("f.f") is None


async def test_a_function_that_is_not_there_is_a_problem_that_lists_those_that_are() -> None:
    dispatcher = direct_only(PlayedLink())
    assert dispatcher.known("g.g") is None
    with pytest.raises(Problem) as caught:
        await dispatcher.find("g.g")
    assert caught.value.kind is problems.UNKNOWN_FUNCTION
    assert caught.value.members == {"functions": ["f.f"]}


async def test_a_function_whose_file_is_broken_is_a_problem_that_knows_the_place() -> None:
    directory = PlayedDirectory(PlayedLink())
    directory.broken_file = BrokenFile(file="g.py", line=3, error="SyntaxError: no", functions=())
    with pytest.raises(Problem, match=r"g\.py:3: SyntaxError: no") as caught:
        await called(over(directory), invocation(name="g.g"))
    assert caught.value.kind is problems.BROKEN


async def test_a_body_is_kept_until_it_has_been_sent_on() -> None:
    link, let_go = PlayedLink(), []
    call, dispatcher = invocation(), direct_only(link)
    call.let_go = lambda: let_go.append(call.body)
    found = await dispatcher.reach(call)
    assert (call.body, let_go) == (b'{"x": 1}', [])
    dispatcher.send(found, call)
    assert (call.body, let_go) == (b"", [b""])
    assert link.payloads[0].endswith(b'{"x": 1}')


@pytest.mark.parametrize(("key", "known_by"), [("", "an-id"), ("customer-17", "customer-17")])
async def test_a_call_says_by_what_its_caller_is_known_where_that_is_not_its_request(
    key: str, known_by: str
) -> None:
    link = PlayedLink()
    call, dispatcher = invocation(), direct_only(link)
    call.key = key
    dispatcher.send(await dispatcher.reach(call), call)
    (payload,) = link.payloads
    assert wire.parse_call(payload)[0].key == key
    assert wire.sticky_key(payload) == known_by


# --- streams -----------------------------------------------------------------------------------


async def test_a_stream_is_its_items_and_what_serves_them() -> None:
    link = PlayedLink()
    stream = await direct_only(link).stream(invocation())
    assert wire.call_key(link.payloads[0]).flags == wire.STREAM
    host_sends(link, SERVED, b"1", b"2")
    link.sent[0].answer(replied(b""))
    await stream.begin()
    assert stream.served == SERVED
    assert [item async for item in stream] == [b"1", b"2"]
    assert stream.problem is None


async def credits_of(*items: bytes) -> list[list[int]]:
    """What had been given before each item was taken, and in the end."""
    link = PlayedLink()
    stream = await direct_only(link).stream(invocation())
    host_sends(link, SERVED, *items)
    link.sent[0].answer(replied(b""))
    await stream.begin()
    return [list(link.credits) async for _ in stream] + [link.credits]


async def test_items_that_are_taken_give_credit_for_more_each_time_half_a_window_is() -> None:
    half = FIRST_WINDOW // 2
    found = await credits_of(*[b"1"] * (half // LEAST + 1))
    assert found[-3:] == [[], [half + half], [half + half]]


async def test_a_window_grows_while_items_are_taken_and_no_further_than_its_bound() -> None:
    items = 10 * WINDOW // LEAST
    given = (await credits_of(*[b"1"] * items))[-1]
    assert given[-1] == WINDOW // 2  # for as much as was taken, and no more
    assert sum(given) <= items * LEAST + (WINDOW - FIRST_WINDOW)


async def test_an_item_larger_than_the_window_gives_credit_once_it_is_taken() -> None:
    large = b"1" * (4 * WINDOW)
    found = await credits_of(large, b"2", large, large)
    grown = len(large) + WINDOW - FIRST_WINDOW
    assert found[:4] == [[], [grown], [grown], [grown, LEAST + len(large)]]


async def test_a_stream_that_fails_before_its_first_item_is_a_problem() -> None:
    link = PlayedLink(wire.problem(Outcome.INVALID, "no"))
    stream = await direct_only(link).stream(invocation())
    with pytest.raises(Problem) as caught:
        await stream.begin()
    assert caught.value.kind is problems.INVALID_INPUT


async def test_a_stream_that_fails_later_ends_and_has_its_problem() -> None:
    link = PlayedLink()
    stream = await direct_only(link).stream(invocation())
    host_sends(link, SERVED, b"1")
    link.sent[0].answer(wire.problem(Outcome.DIED, "killed"))
    await stream.begin()
    assert [item async for item in stream] == [b"1"]
    assert stream.problem is not None
    assert stream.problem.kind is problems.INSTANCE_DIED


async def test_a_stream_that_is_given_up_ends_without_a_problem() -> None:
    link = PlayedLink()
    stream = await direct_only(link).stream(invocation())
    host_sends(link, SERVED, b"1")
    await stream.begin()
    assert await anext(stream) == b"1"
    stream.give_up()
    assert [item async for item in stream] == []
    assert stream.problem is None
    assert link.cancelled == link.sent


def host_sends(link: PlayedLink, *payloads: bytes) -> None:
    items = link.sent[0].items
    assert items is not None
    for payload in payloads:
        items.put_nowait(payload)


# --- tasks -------------------------------------------------------------------------------------


class Acceptances(Desk):
    """Calls that become tasks, on a real ledger."""

    def __init__(
        self,
        ledger: BlockingLedger,
        folder: Path,
        link: PlayedLink,
        blobs: BlobStore | None = None,
    ) -> None:
        super().__init__(ledger, blobs or BlobStore(str(folder / "blobs")))
        self._accepted: asyncio.Queue[str] = asyncio.Queue()
        self._watchers, directory = Watchers(), cast(Any, PlayedDirectory(link))
        reader = TaskReader(ledger, self._watchers, directory, shows_tracebacks=False)
        self.dispatcher = Dispatcher(
            directory, self.intake, reader, shows_tracebacks=False, terms=TaskSettings()
        )

    def keep(self, how: str, pool: str, ids: Sequence[str]) -> None:
        super().keep(how, pool, ids)
        if how == "publish":
            for id_ in ids:
                self._accepted.put_nowait(id_)

    async def run_next(self) -> None:
        """Run the next task that is accepted, as a host does."""
        async with asyncio.timeout(LIMIT_S):
            id_ = await self._accepted.get()
        ending = Ending(state=State.SUCCEEDED, result=Value(inline=b"7"))
        await self.ledger.write(lambda conn: tasks.claim(conn, [id_], "host", 1e12))
        await self.ledger.write(lambda conn: tasks.finish(conn, id_, 1, "host", ending, 1e12))
        self._watchers.changed([id_])


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[BlockingLedger]:
    with BlockingLedger.open(ledger_url) as ledger:
        yield ledger


async def test_a_call_can_be_accepted_as_a_task(ledger: BlockingLedger, tmp_path: Path) -> None:
    acceptance = Acceptances(ledger, tmp_path, PlayedLink(FITS))
    task, is_checked, result = await acceptance.dispatcher.accept(
        invocation(), Preferences(respond_async=True, priority=5)
    )
    assert is_checked
    assert (task.function, task.state, task.priority) == ("f.f", State.QUEUED, 5)
    assert result is None
    assert (await ledger.read(lambda conn: tasks.get(conn, task.id))) is not None


async def test_a_caller_can_wait_for_its_tasks_end(ledger: BlockingLedger, tmp_path: Path) -> None:
    acceptance = Acceptances(ledger, tmp_path, PlayedLink(FITS))
    accepting = acceptance.dispatcher.accept(invocation(), Preferences(wait_s=LIMIT_S))
    (task, _, result), _ = await asyncio.gather(accepting, acceptance.run_next())
    assert (task.state, result and result.value) == (State.SUCCEEDED, Value(inline=b"7"))


async def test_a_task_that_has_not_ended_in_time_has_no_result(
    ledger: BlockingLedger, tmp_path: Path
) -> None:
    acceptance = Acceptances(ledger, tmp_path, PlayedLink(FITS))
    task, _, result = await acceptance.dispatcher.accept(invocation(), Preferences(wait_s=0.0))
    assert (task.state, result) == (State.QUEUED, None)


@pytest.mark.parametrize("outcome", [Outcome.UNAVAILABLE, Outcome.FAILED, Outcome.NOT_FOUND])
async def test_where_nobody_can_tell_whether_the_input_matches_the_task_says_so(
    ledger: BlockingLedger, tmp_path: Path, outcome: Outcome
) -> None:
    unknown = wire.problem(outcome, "nobody can tell")
    acceptance = Acceptances(ledger, tmp_path, PlayedLink(unknown))
    task, is_checked, _ = await acceptance.dispatcher.accept(invocation())
    assert (task.state, is_checked) == (State.QUEUED, False)


async def test_an_input_that_cannot_be_checked_in_time_is_accepted_unchecked(
    ledger: BlockingLedger, tmp_path: Path
) -> None:
    acceptance = Acceptances(ledger, tmp_path, PlayedLink())
    task, is_checked, _ = await acceptance.dispatcher.accept(invocation())
    assert (task.state, is_checked) == (State.QUEUED, False)


async def test_a_wrong_input_is_a_problem_and_nothing_is_written(
    ledger: BlockingLedger, tmp_path: Path
) -> None:
    wrong = wire.problem(Outcome.INVALID, "no", errors=[{"pointer": "/x"}])
    acceptance = Acceptances(ledger, tmp_path, PlayedLink(wrong))
    with pytest.raises(Problem) as caught:
        await acceptance.dispatcher.accept(invocation())
    assert caught.value.kind is problems.INVALID_INPUT
    assert caught.value.members["errors"] == [{"pointer": "/x"}]
    assert await ledger.read(lambda conn: tasks.page(conn, limit=1)) == ([], None)


async def test_the_same_key_is_the_same_task_and_another_body_a_problem(
    ledger: BlockingLedger, tmp_path: Path
) -> None:
    acceptance = Acceptances(ledger, tmp_path, PlayedLink(FITS, FITS, FITS))
    accept = acceptance.dispatcher.accept
    first, *_ = await accept(invocation(), idempotency_key="k")
    await acceptance.run_next()
    again, *_ = await accept(invocation(), idempotency_key="k")
    assert (again.id, again.state) == (first.id, State.SUCCEEDED)
    with pytest.raises(Problem) as caught:
        await accept(invocation(json.dumps({"x": 2}).encode()), idempotency_key="k")
    assert caught.value.kind is problems.KEY_REUSED


class FullStore(BlobStore):
    """A store on a disk that is full."""

    def put(self, data: bytes) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_an_input_that_finds_the_disk_full_is_a_problem_of_room_and_nothing_is_written(
    ledger: BlockingLedger, tmp_path: Path
) -> None:
    acceptance = Acceptances(ledger, tmp_path, PlayedLink(FITS), FullStore(str(tmp_path)))
    with pytest.raises(Problem) as caught:
        await acceptance.dispatcher.accept(invocation(json.dumps({"x": "y" * 100_000}).encode()))
    assert caught.value.kind is problems.NO_ROOM
    assert "No space left on device" in str(caught.value)
    assert await ledger.read(lambda conn: tasks.page(conn, limit=1)) == ([], None)
