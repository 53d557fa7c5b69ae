"""Calling a function for a client: directly, as a stream of items, or as a task. Knows no HTTP.

A face is an adapter that makes an :class:`Invocation` of what its protocol brings, and renders
bytes, items, a task or a :class:`~skipper.gateway.problems.Problem`; ``invoke.py`` is REST's.
Whether the caller is still there is the face's to watch, because every protocol notices it in
another way. A face that cancels what it waits for gives the call up.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from skipper import problems
from skipper.errors import FullError, NoRoomError, SkipperError, UnavailableError
from skipper.gateway.item_stream import ItemStream
from skipper.gateway.problems import Problem, from_outcome
from skipper.gateway.task_reader import TaskReader
from skipper.ledger.records import Result
from skipper.outcomes import Outcome
from skipper.settings.model import TaskSettings
from skipper.spec import FunctionSpec
from skipper.task import Task
from skipper.tasks.intake import Intake, Submission
from skipper.wire import calls as wire
from skipper.wire.calls import CallHead
from skipper.wire.directory import Directory
from skipper.wire.link import Link, PendingCall

PATIENCE_S = 30.0
"""How long a call waits for a function whose file is still being read."""
REACH_S = 5.0
"""How long a call waits for a host that is being started again."""
CHECK_S = 1.0
"""How long a task's acceptance waits for its input to be checked."""
_OK = int(Outcome.OK)  # a plain number, because every reply is compared with it

Callee = tuple[FunctionSpec, Link]
"""A function, and the way to the host that serves it."""


class Invocation:
    """One call as a face has received it. Plain slots, because each direct call makes one.

    ``body`` is the input's JSON, kept until it has been sent on; the face's ``let_go`` is called
    then. Deadlines count from ``received``, on the loop's clock. By ``key`` it is sent to a
    version of a model of which several answer, by its request id where that is empty.
    """

    __slots__ = ("body", "function", "key", "let_go", "received", "request_id")

    def __init__(
        self,
        function: str,
        body: bytes,
        request_id: str,
        received: float,
        let_go: Callable[[], None] = lambda: None,
        *,
        key: str = "",
    ) -> None:
        self.function, self.body, self.let_go, self.key = function, body, let_go, key
        self.request_id, self.received = request_id, received

    def sent(self) -> None:
        """The body has been sent on, and is needed here no more."""
        self.body = b""
        self.let_go()

    def left_s(self, spec: FunctionSpec) -> float:
        """What is left of a direct call's time, in seconds."""
        return self.deadline(spec) - asyncio.get_running_loop().time()

    def deadline(self, spec: FunctionSpec) -> float:
        """When a direct call must have been answered, on the loop's clock."""
        return self.received + spec.direct_s


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """How a caller wants its answer.

    ``wait_s`` is None where the caller does not wait for the task's end. Of a task, ``priority``
    and ``expires_s`` replace what its function declares.
    """

    respond_async: bool = False
    is_minimal: bool = False
    """Whether the value is to be kept as a file, which is answered in its place."""
    wait_s: float | None = None
    priority: int | None = None
    delay_s: float | None = None
    expires_s: float | None = None

    @property
    def wants_task(self) -> bool:
        """Whether it can only be a task, because a direct call neither waits nor expires."""
        return (
            self.respond_async
            or self.wait_s is not None
            or self.delay_s is not None
            or self.expires_s is not None
        )


NO_PREFERENCES = Preferences()


class AcceptedTask(NamedTuple):
    """The task that a call has become."""

    task: Task
    is_checked: bool
    """Whether its input is known to match; else its run will show whether it does."""
    result: Result | None = None
    """What came of it, if it ended while its caller waited."""


class Dispatcher:
    """Has functions called. What goes wrong is raised as a :class:`Problem`.

    ``shows_tracebacks`` is whether callers may see the tracebacks of functions that raise;
    ``terms`` bound what they may ask of tasks.
    """

    def __init__(
        self,
        directory: Directory,
        intake: Intake,
        tasks: TaskReader,
        *,
        shows_tracebacks: bool,
        terms: TaskSettings,
    ) -> None:
        self._directory, self._intake, self._tasks = directory, intake, tasks
        self._shows_tracebacks, self._terms = shows_tracebacks, terms

    def known(self, name: str) -> FunctionSpec | None:
        """The function, if it is known now or its host is being started again."""
        found = self._directory.remembered(name)
        return found and found[0]

    async def find(self, name: str) -> FunctionSpec:
        """The function, once files that may define it have been read. Raises Problem."""
        return (await self._find(name, PATIENCE_S))[0]

    def reachable(self, name: str) -> Callee | None:
        """The function and its host's link, if a call can be sent at once."""
        found = self._directory.get(name)
        return found if found is not None and found[1].is_up else None

    async def reach(self, call: Invocation) -> Callee:
        """:meth:`reachable`, waiting for a file or a host that comes. Raises Problem."""
        return self.reachable(call.function) or await self._until_up(call)

    def send(self, found: Callee, call: Invocation) -> PendingCall:
        """Send a direct call; :meth:`value` is for its reply. Raises Problem."""
        return self._send(found, call)

    def value(self, call: Invocation, reply: bytes) -> tuple[bytes, bytes]:
        """What served a direct call (:func:`~skipper.wire.calls.served_by`), and its value's JSON.

        Raises Problem for a reply that has none.
        """
        outcome, served, value = wire.parse_reply(reply)
        if outcome != _OK:
            raise from_outcome(
                outcome,
                value,
                served=served,
                with_traceback=self._shows_tracebacks,
                function=call.function,
                request_id=call.request_id,
            )
        return served, value

    async def stream(self, call: Invocation) -> ItemStream:
        """The items of a generator, which is on its way. Raises Problem."""
        found = await self.reach(call)
        items: asyncio.Queue[bytes | None] = asyncio.Queue()
        return ItemStream(self._send(found, call, items), items)

    async def accept(
        self,
        call: Invocation,
        preferences: Preferences = NO_PREFERENCES,
        idempotency_key: str | None = None,
    ) -> AcceptedTask:
        """Have the call run as a task, and wait for its end as long as the caller prefers.

        Under a key that is known it is the task of then. Raises Problem.
        """
        name = call.function
        spec, link = self._directory.remembered(name) or await self._find(name, PATIENCE_S)
        self._check_terms(spec, preferences)
        is_checked = await self.check_input(spec, link, call)
        with _problems():
            task = await self._accepted(_submission(spec, call, preferences, idempotency_key))
            call.sent()
            if preferences.wait_s is None:
                return AcceptedTask(task, is_checked)
            result = await self._tasks.until_ended(task.id, preferences.wait_s)
        ended = result if result.task.state.is_terminal else None
        return AcceptedTask(result.task, is_checked, ended)

    def _check_terms(self, spec: FunctionSpec, preferences: Preferences) -> None:
        """Raise Problem where the caller asks for more than callers may."""
        most = max(self._terms.max_priority, spec.priority)
        if preferences.priority is not None and preferences.priority > most:
            detail = f"priority {preferences.priority}; callers of {spec.name} may ask for {most} "
            raise Problem(problems.BAD_REQUEST, f"{detail}at most (tasks.max_priority)")
        longest_s = self._terms.max_delay_days * 86400
        if preferences.delay_s is not None and preferences.delay_s > longest_s:
            detail = f"a delay of {preferences.delay_s:g} s; callers may ask for {longest_s:g} s "
            raise Problem(problems.BAD_REQUEST, f"{detail}at most (tasks.max_delay_days)")

    async def check_input(self, spec: FunctionSpec, link: Link, call: Invocation) -> bool:
        """Whether a task's input is known to match. Raises Problem if it is known not to.

        Its function's file is loaded for that where nothing of it is served. Where that takes too
        long, as long as heavy libraries are still being imported, nobody can tell.
        """
        head = CallHead(int(CHECK_S * 1000), 0, 0, spec.name, call.request_id)
        try:
            payload = await link.check(wire.call_head(head) + call.body, CHECK_S)
        except UnavailableError:
            return False
        outcome, _, body = wire.parse_reply(payload)
        if outcome in (Outcome.INVALID, Outcome.MALFORMED):
            raise from_outcome(outcome, body, with_traceback=False, function=spec.name)
        return outcome == _OK

    async def _accepted(self, submission: Submission) -> Task:
        """The task that is in the ledger: the submission's, or the earlier one under its key."""
        try:
            accepted = await self._intake.accept(submission)
        except FullError as error:
            raise Problem(
                problems.QUEUE_FULL, str(error), {"function": submission.spec.name}
            ) from None
        except NoRoomError as error:
            raise Problem(problems.NO_ROOM, f"the task was not accepted: {error}") from None
        except SkipperError as error:
            raise Problem(problems.UNAVAILABLE, f"the task was not accepted: {error}") from None
        if not accepted.matches:
            detail = "this Idempotency-Key came with another function or body before"
            raise Problem(problems.KEY_REUSED, detail)
        if not accepted.is_new:  # perhaps a training that has ended
            await self._tasks.announce([accepted.task])
        return accepted.task

    def _send(
        self, found: Callee, call: Invocation, items: asyncio.Queue[bytes | None] | None = None
    ) -> PendingCall:
        spec, link = found
        deadline = call.deadline(spec)
        left_ms = math.ceil((deadline - asyncio.get_running_loop().time()) * 1000)
        if left_ms <= 0:
            detail = "the deadline passed before the call could be given to its pool"
            raise Problem(problems.DEADLINE, detail, {"function": spec.name})
        flags = 0 if items is None else wire.STREAM
        head = wire.call_head(CallHead(left_ms, flags, 0, spec.name, call.request_id, call.key))
        try:
            pending = link.call(head + call.body, deadline, items)
        except UnavailableError as error:
            raise Problem(problems.UNAVAILABLE, str(error)) from None
        call.sent()
        return pending

    async def _until_up(self, call: Invocation) -> Callee:
        """The function and its host's link, once its host can be reached. Raises Problem."""
        name = call.function
        spec, link = self._directory.remembered(name) or await self._find(name, PATIENCE_S)
        if not link.is_up:
            with _problems():
                await link.until_up(min(REACH_S, call.left_s(spec)))
        # Perhaps a new host, which has yet to read the function's file.
        patience_s = min(PATIENCE_S, call.left_s(spec))
        return self._directory.get(name) or await self._find(name, patience_s)

    async def _find(self, name: str, patience_s: float) -> Callee:
        with _problems():
            found = await self._directory.find(name, patience_s)
        if found is not None:
            return found
        if (broken := self._directory.broken_for(name)) is not None:
            where = f"{broken.file}:{broken.line}" if broken.line else broken.file
            detail = f"{where}: {broken.tried}"
            raise Problem(problems.BROKEN, detail, {"function": name})
        known = [item.spec.name for item in self._directory.functions()]
        raise Problem(
            problems.UNKNOWN_FUNCTION, f"there is no function {name!r}", {"functions": known[:100]}
        )


def _submission(
    spec: FunctionSpec, call: Invocation, preferences: Preferences, key: str | None
) -> Submission:
    return Submission(
        spec=spec,
        body=call.body,
        request_id=call.request_id,
        idempotency_key=key,
        priority=preferences.priority,
        delay_s=preferences.delay_s or 0.0,
        expires_s=preferences.expires_s,
    )


@contextlib.contextmanager
def _problems() -> Iterator[None]:
    """Raise as a problem that something cannot be reached."""
    try:
        yield
    except UnavailableError as error:
        raise Problem(problems.UNAVAILABLE, str(error)) from None
