"""One call between its bytes and the function: arguments in, reply out, whatever happens."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from skipper import wire
from skipper.contract import Contract
from skipper.errors import Cancelled, CancelledError
from skipper.function import Function
from skipper.instance import caller
from skipper.instance.jobs import ModelRef
from skipper.instance.link import Link
from skipper.instance.shelf import Shelf
from skipper.model import Model
from skipper.plugins import shown, user_traceback
from skipper.run import Run
from skipper.task import Outcome
from skipper.wire import Frame, Kind

_MAX_ERRORS = 100


class Sink:
    """Where the words of one call go: frames with its id."""

    def __init__(self, link: Link, call_id: int) -> None:
        self._link, self._id = link, call_id

    def emit(self, event: dict[str, Any]) -> None:
        self._link.send(Kind.EVENT, self._id, _json({"at": time.time()} | event, str))

    def is_cancelled(self) -> bool:
        return self._link.is_cancelled(self._id)


class Calls:
    """What a call needs beside its body, whichever way the function runs."""

    def __init__(self, link: Link, function: Function[..., Any], shelf: Shelf, code: str) -> None:
        self.link = link
        self.contract: Contract = function.contract
        """What callers send and get."""
        self.batch = function.options.get("batch", 0)
        """The largest batch; 0 for a function that takes calls one by one."""
        self._taking = function.batch_contract if self.batch else function.contract
        self.target = function.callable if function.twin is None else function.twin
        self._shelf = shelf
        self._code = code
        self.served = b""
        self.loaded: dict[str, Any] = {}
        """The models to inject."""
        self._renew()

    def take_model(self, ref: ModelRef) -> None:
        """Serve a newer version from the next call on; the old one where it cannot be loaded."""
        try:
            self._shelf.put(ref)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the old version serves
            told = f"model {ref.name}@{ref.version} could not be loaded: {shown(error)}"
            sys.stderr.write(told + "\n")
        self._renew()
        self.link.send(Kind.REPORT, 0, b"{}")

    def _renew(self) -> None:
        self.loaded = self._shelf.injected(self._taking.loaded_parameters)
        self.served = wire.served_by(self._code, self._shelf.versions)

    def arguments(self, frame: Frame) -> dict[str, Any]:
        """Keyword arguments of a call. Raises ValidationError."""
        kwargs = self.contract.parse(wire.call_body(frame.payload))
        if self.loaded:
            kwargs |= self.loaded
        if self.contract.run_parameters:
            run = self._run(frame)
            kwargs |= dict.fromkeys(self.contract.run_parameters, run)
        return kwargs

    def checked(self, frame: Frame) -> bytes:
        """The reply to a call that only asks whether its body matches."""
        body = wire.call_body(frame.payload)
        try:
            if not self.batch or self.contract.parse_items(body) is None:
                self.contract.parse(body)
        except BaseException as error:  # noqa: BLE001 - a validator of the user's may raise anything
            return self.refusal(error)
        return wire.reply(Outcome.OK, self.served, b"")

    def enter(self, frame: Frame) -> None:
        """Make the call known to the calls it will make."""
        head, _ = wire.parse_call(frame.payload)
        task_id, _, request_id = _context(head)
        ends = time.monotonic() + head.budget_ms / 1000 if head.budget_ms else math.inf
        caller.current.set(caller.CallContext(head.depth, request_id, task_id or "", ends))

    def _run(self, frame: Frame) -> Run:
        head, _ = wire.parse_call(frame.payload)
        task_id, attempt, request_id = _context(head)
        return Run(
            Sink(self.link, frame.id),
            task_id=task_id,
            attempt=attempt,
            request_id=request_id or None,
            seconds=head.budget_ms / 1000 if head.budget_ms else None,
        )

    def result(self, frame: Frame, value: Any) -> bytes:
        """The reply for a returned value; a model goes to the store on the way.

        Raises TypeError for a model out of a direct call: only a task's end can publish it.
        """
        if isinstance(value, Model):
            if not wire.call_flags(frame.payload) & wire.TASK:
                raise TypeError("only a task publishes a model; call it with Prefer: respond-async")
            metrics = _json(value.metrics, self._plain)
            saved = to_json({"name": value.name} | self._shelf.save(value))
            self.link.send(
                Kind.EVENT,
                frame.id,
                b'{"type":"model","data":' + saved + b',"metrics":' + metrics + b"}",
            )
            return wire.reply(Outcome.OK, self.served, metrics)
        return wire.reply(Outcome.OK, self.served, self.contract.dump(value))

    def _plain(self, value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else str(value)

    def failure(self, error: BaseException) -> bytes:
        """The reply for whatever a call raised."""
        if isinstance(error, Cancelled | CancelledError):
            return wire.problem(Outcome.CANCELLED, "the run was cancelled", self.served)
        return wire.problem(
            Outcome.FAILED,
            shown(error),
            self.served,
            exception=type(error).__name__,
            traceback=user_traceback(error),
        )

    def refusal(self, error: BaseException) -> bytes:
        """The reply for a body that could not be read: it does not match, or a validator broke."""
        return self.invalid(error) if isinstance(error, ValidationError) else self.failure(error)

    def invalid(self, error: ValidationError) -> bytes:
        """The reply for a body that does not match."""
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        if errors and errors[0]["type"] == "json_invalid":
            return wire.problem(
                Outcome.MALFORMED, f"the body is not JSON: {errors[0]['msg']}", self.served
            )
        told = [
            {"pointer": _pointer(item["loc"]), "detail": item["msg"]}
            for item in errors[:_MAX_ERRORS]
        ]
        first = f"{told[0]['pointer'] or 'the body'}: {told[0]['detail']}"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return wire.problem(Outcome.INVALID, first + more, self.served, errors=told)


def _json(value: Any, fallback: Callable[[Any], Any]) -> bytes:
    """JSON as everybody reads it: a loss that is not a number is null."""
    return to_json(value, fallback=fallback, inf_nan_mode="null")


def _context(head: wire.CallHead) -> tuple[str | None, int, str]:
    if not head.flags & wire.TASK:
        return None, 1, head.context
    task_id, attempt, request_id = head.context.split("/", 2)
    return task_id, int(attempt), request_id


def _pointer(location: tuple[int | str, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)
