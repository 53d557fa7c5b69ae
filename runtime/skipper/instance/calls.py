"""One call between its bytes and the function: arguments in, reply out, whatever happens."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from skipper.errors import Cancelled, NotFoundError, TooLargeError
from skipper.failpoints import failpoint
from skipper.function.decorators import Function
from skipper.function.model import models_in, outline
from skipper.function.options import exceptions
from skipper.function.output_check import OutputCheck, is_declared
from skipper.function.run import Run
from skipper.function.signature import Signature
from skipper.instance import caller, output
from skipper.instance.checkpoints import AttemptCheckpoints, CheckpointStore
from skipper.instance.link import HostLink
from skipper.instance.models import ChangeWatch, LoadedModels, UnsavedModelError
from skipper.instance.named import InstanceModels, NamedModels, NoModelError
from skipper.instance.publications import AttemptPublications, TrainedModels
from skipper.instance.refusals import failure, invalid
from skipper.instance.sink import EventSink
from skipper.instance.surroundings import Surroundings
from skipper.instance.tallies import InstanceTallies
from skipper.instance.threads import ThreadShare
from skipper.outcomes import Outcome
from skipper.values.envelope import is_envelope, unpack
from skipper.values.opening import NO_PLACES, OpenParts, Places
from skipper.values.value import JSON
from skipper.wire.calls import CHILD, TASK, CallHead, parse_call, problem, reply, served_by
from skipper.wire.events import LOG
from skipper.wire.frames import Frame

log = logging.getLogger("skipper.output")


class IncomingCall:
    """A call as it came from the host: its head, read, and its body as bytes."""

    __slots__ = ("_at", "_payload", "accept", "head", "id", "parts")  # one is made for each call

    def __init__(self, frame: Frame) -> None:
        _, self.id, self._payload = frame
        self.head, self._at = parse_call(self._payload)
        self.accept = ""
        """How the value is to be written, as an envelope says it."""
        self.parts: OpenParts | None = None
        """What the JSON may refer to; kept for as long as the call, because files go with it."""

    @property
    def body(self) -> bytes:
        """A copy, which need not be kept while the function runs."""
        return self._payload[self._at :]

    def open(self, places: Places) -> bytes:
        """The body's JSON; :attr:`parts` and :attr:`accept` are known from then on."""
        body = self.body
        if not is_envelope(body):
            self.parts = OpenParts((), places)
            return body
        envelope = unpack(body)
        self.accept, self.parts = envelope.accept, OpenParts(envelope.parts, places)
        return envelope.json or b""

    def close(self) -> None:
        """The call is over, and what was opened for it is needed no more."""
        if self.parts is not None:
            self.parts.close()

    def wants(self, flag: int) -> bool:
        """Whether it was sent with this flag, one of :mod:`skipper.wire.calls`."""
        return bool(self.head.flags & flag)


class ServedFunction:
    """The function that this instance serves, with its models: bytes in, bytes out.

    Used by ``runner`` and ``aio``, which call it. ``link`` takes what leaves before the replies;
    ``code`` is the hash that replies name; a value's JSON has at most ``max_result`` bytes, 0 for
    any number; ``places`` is where the parts of values lie.
    """

    def __init__(
        self,
        link: HostLink,
        function: Function[..., Any],
        models: LoadedModels,
        code: str,
        max_result: int = 0,
        *,
        places: Places = NO_PLACES,
    ) -> None:
        self.link = link
        self._max_result, self._places = max_result, places
        self.signature: Signature = function.signature
        """What one caller sends and gets."""
        self._name = function.name
        self._has_types = self.signature.input.has_value_types
        gives = self.signature.gives
        self._gives_json = gives is None or gives.writes[0] == JSON
        """Whether its value is JSON, unless a caller accepts something else."""
        self.batch = function.options.get("batch", 0)
        """The largest batch; 0 for a function that takes calls one by one."""
        self._taking = function.batch_signature if self.batch else function.signature
        self.stacks, self.splits = self._taking.stacks, self._taking.splits
        """How a batch is put together and taken apart, where that is more than a list."""
        self.target = function.batch_target or function.callable
        self._models = models
        self._watch: ChangeWatch | None = None
        self.threads: ThreadShare | None = None
        """Follows what the host says of threads; None where it says nothing."""
        self._code = code
        self._retried = exceptions(function.options.get("retry_on", BaseException))
        self.surroundings: Surroundings | None = None
        """Puts back what a call has changed around it; None where nothing does."""
        self.checkpoints: CheckpointStore | None = None
        """Keeps those of tasks; None where nothing does."""
        self.named: NamedModels | None = None
        """Has the models that calls ask for; None where nothing does."""
        self.by_call = self._taking.by_call_parameters
        """Parameters that get these."""
        self._output_check = _output_check(function)
        self._sinks: dict[int, EventSink] = {}
        self._tallies = InstanceTallies(link, function.name)
        self._attempts: dict[int, AttemptCheckpoints] = {}
        self._loaded = models.injected(self._taking.loaded_parameters)
        self._deployments: tuple[str, ...] = ()
        self._name_what_serves()

    def _name_what_serves(self) -> None:
        self.served = served_by(self._code, self._models.versions, self._deployments)
        # Made once, because it begins every good reply.
        self._good = reply(Outcome.OK, self.served, b"")

    def follow_deployments(self, frame: Frame) -> None:
        """From now on name the deployments in replies that a FOLLOWS frame says."""
        self._deployments = tuple(frame.payload.decode().split())
        self._name_what_serves()

    def watch_models(self) -> None:
        """From now on, tell of direct calls that change the models which others share."""
        self._watch = ChangeWatch(self._models, self._taking.loaded_parameters.values())

    def take_threads(self, frame: Frame) -> None:
        """Compute on as many threads from now on as a THREADS frame says."""
        if self.threads is not None:
            self.threads.take(frame)

    def forget_models(self, frame: Frame) -> None:
        """Ask again for the models that a FORGET frame names."""
        if self.named is not None:
            self.named.forget(frame)

    def asked_models(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The models that a call with these arguments asks for, by parameter.

        Raises NoModelError, and as loading does.
        """
        if not self.by_call:
            return {}
        assert self.named is not None
        is_own = caller.current.get().is_task
        names = self.model_names(given)
        return {
            parameter: self.named.get(names[parameter], mark.default, is_own=is_own)
            for parameter, mark in self.by_call.items()
        }

    def model_names(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Their names, by parameter. Raises NoModelError for what names none."""
        values: Mapping[str, Any] = {**self.signature.defaults, **given}
        if (sole := self.signature.body_parameter) is not None:
            values = _Members(values[sole])
        try:
            return {parameter: mark.name_for(values) for parameter, mark in self.by_call.items()}
        except NotFoundError as error:
            raise NoModelError(str(error)) from None

    def begin_group(self) -> None:
        """What runs next, of a batch, asks for other models than what ran before."""
        if (used := caller.current.get().models) is not None:
            used.clear()

    def arguments(self, call: IncomingCall) -> dict[str, Any]:
        """Keyword arguments for a call, models and :class:`Run` included.

        Raises ValidationError, and whatever a validator of the user's raises.
        """
        kwargs = self.signature.parse(self.text(call), call.parts)
        if self._loaded:
            kwargs |= self.models(call)
        if self.signature.run_parameters:
            run = self._run(call)
            kwargs |= dict.fromkeys(self.signature.run_parameters, run)
        return kwargs

    def text(self, call: IncomingCall) -> bytes:
        """The JSON of a call's body, whose parts are open from then on."""
        body = call.body
        return call.open(self._places) if self._has_types or is_envelope(body) else body

    def models(self, call: IncomingCall) -> dict[str, Any]:
        """The models to inject: what direct calls share, for a task as they are stored."""
        if self._loaded and call.wants(TASK):
            self._loaded = self._models.as_stored(self._taking.loaded_parameters)
        elif self._watch is not None:
            for name in self._watch.look():
                sys.stderr.write(
                    f"a call has changed the model {name}, which all calls of this process share: "
                    "the next are given it so; let the function change a copy\n"
                )
        return self._loaded

    def enter(self, call: IncomingCall) -> bool:
        """Have the calls that this one makes carry its deadline and ids; whether it is a task.

        For the thread, or the asyncio task, that runs this.
        """
        head = call.head
        task_id, _, request_id = _context(head)
        ends = time.monotonic() + head.budget_ms / 1000 if head.budget_ms else math.inf
        parent = head.context.partition("/")[0] if head.flags & CHILD else task_id or ""
        is_task, used = task_id is not None, list[str]()
        caller.current.set(
            caller.CallContext(head.depth, request_id, parent, ends, is_task, used, head.key)
        )
        if task_id is None:
            return False
        failpoint("instance.entered")
        return True

    def leave(self, id_: int) -> None:
        """Send the last of what the call with this id says, which its reply is to follow."""
        if (sink := self._sinks.pop(id_, None)) is not None:
            sink.close()
        if (attempt := self._attempts.pop(id_, None)) is not None:
            attempt.close()
        if self._tallies.is_pending:
            self._tallies.send()
        output.end_call()
        caller.current.set(caller.NO_CALL)

    def rest(self, *, after_task: bool) -> None:
        """No call runs any more: the next one finds what the first one found."""
        if self.surroundings is not None:
            self.surroundings.put_back(looks_closely=after_task)

    def _run(self, call: IncomingCall) -> Run:
        head = call.head
        task_id, attempt, request_id = _context(head)
        sink = self._sinks[call.id] = EventSink(self.link, call.id)
        return Run(
            sink,
            checkpoints=self._checkpoints_of(call.id, task_id, sink),
            models=None if self.named is None else InstanceModels(self.named),
            publications=self._publications_of(call.id, task_id),
            tallies=self._tallies,
            task_id=task_id,
            attempt=attempt,
            request_id=request_id or None,
            seconds=head.budget_ms / 1000 if head.budget_ms else None,
        )

    def batch_runs(self) -> dict[str, Run]:
        """What a batch gets as its :class:`Run`: it counts, and is no one call's."""
        run_parameters = self._taking.run_parameters
        return dict.fromkeys(run_parameters, Run(tallies=self._tallies)) if run_parameters else {}

    def _checkpoints_of(
        self, id_: int, task_id: str | None, sink: EventSink
    ) -> AttemptCheckpoints | None:
        """Those of the task that a call is an attempt of."""
        if self.checkpoints is None or task_id is None:
            return None

        def log(text: str, level: str) -> None:
            sink.emit({"type": LOG, "data": {"stream": level, "text": text}})

        made = self._attempts[id_] = AttemptCheckpoints(self.checkpoints, task_id, log)
        return made

    def _publications_of(self, id_: int, task_id: str | None) -> AttemptPublications | None:
        if self.checkpoints is None or task_id is None:
            return None
        return AttemptPublications(
            trained=self._trained(id_), store=self.checkpoints, task_id=task_id
        )

    def result(self, call: IncomingCall, value: Any) -> bytes:
        """The reply for a returned value; a model is put into the store first.

        Raises TypeError for what is not JSON, and for a model out of a direct call: only a task's
        end can publish it. Raises TooLargeError, FormatError, and what a plugin raises.
        """
        if models := models_in(value):
            if not call.wants(TASK):
                raise TypeError("only a task publishes a model; call it with Prefer: respond-async")
            trained = self._trained(call.id)
            # All are saved first, because they are published all or none.
            for saved in [trained.save(model) for model in models]:
                # Before the reply, because the host publishes what it knows of when that comes.
                trained.announce(saved)
            return self.success(to_json(outline(value)))
        return self.success(self.written(call, value))

    def _trained(self, id_: int) -> TrainedModels:
        return TrainedModels(
            link=self.link, models=self._models, call_id=id_, check_size=self.check_size
        )

    def success(self, body: bytes) -> bytes:
        """The reply of a call that ended well; ``body`` is its value, as JSON or an envelope."""
        if caller.current.get().models:
            return reply(Outcome.OK, self.serving, body)
        return self._good + body

    @property
    def serving(self) -> bytes:
        """What serves the present call: :attr:`served`, and the models that it has asked for."""
        used = caller.current.get().models
        if not used:
            return self.served
        return served_by(self._code, [*self._models.versions, *used], self._deployments)

    def written(self, call: IncomingCall, value: Any) -> bytes:
        """The body that answers ``call`` with a value. Raises as :meth:`dump` does."""
        if self._gives_json and not call.accept:
            return self.dump(value)
        return self.checked_size(self.signature.write(value, call.accept, self._places))

    def dump(self, value: Any) -> bytes:
        """The JSON of a returned value. Raises TypeError or ValueError where it cannot be sent,

        TooLargeError where it has more than ``max_result`` bytes.
        """
        text = self.whole(value)
        if self._output_check is not None and (told := self._output_check.look(value, text)):
            log.warning("%s: %s", self._name, told)
        return text

    def whole(self, value: Any) -> bytes:
        """The JSON of a value, or of a list of them. Raises as :meth:`dump` does."""
        return self.checked_size(self.signature.dump(value))

    def checked_size(self, text: bytes) -> bytes:
        """``text``. Raises TooLargeError as :meth:`check_size` does."""
        self.check_size(len(text))
        return text

    def check_size(self, size: int) -> None:
        """Raise TooLargeError where ``size`` bytes are more than a reply may have.

        Host and gateway would have to hold them.
        """
        if 0 < self._max_result < size:
            raise TooLargeError(
                f"the returned value is {size / (1 << 20):.1f} MiB of JSON; at most "
                f"{self._max_result / (1 << 20):g} MiB are taken (pools.*.max_result_mb). Return "
                "less, or store it and return where it is"
            )

    def failure(self, error: BaseException) -> bytes:
        """The reply for whatever a call raised; not to be retried where ``retry_on`` omits it."""
        if isinstance(error, Cancelled):
            return problem(Outcome.CANCELLED, "the run was cancelled", self.serving)
        if isinstance(error, NoModelError) and self.by_call:
            return problem(Outcome.NO_MODEL, str(error), self.serving)
        is_retried = any(_is_a(kind, error) for kind in self._retried)
        is_retried &= not isinstance(error, UnsavedModelError)
        return failure(error, self.serving, **({} if is_retried else {"retryable": False}))

    def refusal(self, error: BaseException) -> bytes:
        """The reply for a body that could not be read: it does not match, or a validator broke."""
        return self.invalid(error) if isinstance(error, ValidationError) else self.failure(error)

    def invalid(self, error: ValidationError) -> bytes:
        """The reply for a body that does not match."""
        return invalid(error, self.served)


class _Members(Mapping[str, Any]):
    """The fields of a pydantic model, by name."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getitem__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __iter__(self) -> Iterator[str]:
        return iter(type(self._model).model_fields)

    def __len__(self) -> int:
        return len(type(self._model).model_fields)


class Items:
    """What a generator has yielded so far, as JSON: the parts of one array."""

    def __init__(self, function: ServedFunction) -> None:
        self._function = function
        self._parts: list[bytes] = []
        self._size = 2

    def add(self, item: Any) -> None:
        """Add one. Raises TooLargeError as soon as the array is too large to be sent."""
        part = self._function.dump(item)
        self._parts.append(part)
        self._size += len(part) + 1
        self._function.check_size(self._size)

    def json(self) -> bytes:
        return b"[" + b",".join(self._parts) + b"]"


def _output_check(function: Function[..., Any]) -> OutputCheck | None:
    """Looks at what a function returns; None where its hint says nothing that JSON could miss."""
    signature = function.signature
    if signature.returns_model or signature.output.has_value_types:
        return None
    if not is_declared(signature.returned):
        return None
    return OutputCheck(signature.output, is_strict=function.options.get("validate_output", False))


def _is_a(kind: type[BaseException] | str, error: BaseException) -> bool:
    """Whether ``error`` is of this class, or of one so named; subclasses count."""
    if not isinstance(kind, str):
        return isinstance(error, kind)
    return any(
        kind in (known.__name__, f"{known.__module__}.{known.__qualname__}")
        for known in type(error).__mro__
    )


def _context(head: CallHead) -> tuple[str | None, int, str]:
    """Task id (None in a direct call), attempt, request id."""
    if head.flags & CHILD:
        return None, 1, head.context.partition("/")[2]
    if not head.flags & TASK:
        return None, 1, head.context
    task_id, attempt, request_id = head.context.split("/", 2)
    return task_id, int(attempt), request_id
