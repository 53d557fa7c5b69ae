"""Runs several calls as one: each is validated alone and answered alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from skipper import wire
from skipper.errors import TooLargeError
from skipper.instance.calls import Calls
from skipper.task import Outcome
from skipper.wire import Frame

Item = dict[str, Any]


class _Part(NamedTuple):
    """One call's share of a batch: its items, and whether it sent them as ``{"items": […]}``."""

    id: int
    items: list[Item]
    is_many: bool


def run_batch(calls: Calls, frames: Sequence[Frame]) -> tuple[list[int], dict[int, bytes]]:
    """The sizes of the batches that ran, and the reply to each call by its id."""
    replies: dict[int, bytes] = {}
    parts = [part for frame in frames if (part := _part_of(calls, frame, replies)) is not None]
    items = [item for part in parts for item in part.items]
    sizes, answers = [], []
    for at in range(0, len(items), calls.batch):
        chunk = items[at : at + calls.batch]
        sizes.append(len(chunk))
        answers += _answers(calls, chunk)
    rest = iter(answers)
    for part in parts:
        own = [next(rest) for _ in part.items]
        replies[part.id] = _gathered(calls, own) if part.is_many else own[0]
    return sizes, replies


def _part_of(calls: Calls, frame: Frame, replies: dict[int, bytes]) -> _Part | None:
    """The items of a call; None where it has been answered already."""
    if wire.call_flags(frame.payload) & wire.CHECK:
        replies[frame.id] = calls.checked(frame)
        return None
    body = wire.call_body(frame.payload)
    try:
        try:
            return _Part(frame.id, [calls.contract.parse(body)], is_many=False)
        except ValidationError as error:
            if (items := calls.contract.parse_items(body)) is None:
                raise error from None
            return _Part(frame.id, items, is_many=True)
    except ValidationError as error:
        replies[frame.id] = calls.invalid(error)
    except BaseException as error:  # noqa: BLE001 - a validator of the user's may raise anything
        replies[frame.id] = calls.failure(error)
    return None


def _answers(calls: Calls, items: list[Item]) -> list[bytes]:
    """The reply for each item, whatever the function does."""
    defaults = calls.contract.defaults
    names = calls.contract.names
    columns = {
        name: [item[name] if name in item else defaults[name] for item in items] for name in names
    }
    try:
        values = list(calls.target(**columns, **calls.loaded))
        if len(values) != len(items):
            raise ValueError(
                f"a batch of {len(items)} items was answered with {len(values)} values"
            )
    except BaseException as error:  # noqa: BLE001 - what a function raises is data
        return [calls.failure(error)] * len(items)
    return [_answer(calls, value) for value in values]


def _answer(calls: Calls, value: Any) -> bytes:
    if isinstance(value, BaseException):
        return calls.failure(value)
    try:
        return wire.reply(Outcome.OK, calls.served, calls.dump(value))
    except BaseException as error:  # noqa: BLE001 - one value that is not JSON fails alone
        return calls.failure(error)


def _gathered(calls: Calls, replies: list[bytes]) -> bytes:
    """One reply for the items of one call: the values, ``{"error": …}`` for each that failed."""
    bodies = []
    for reply in replies:
        outcome, _, body = wire.parse_reply(reply)
        bodies.append(body if outcome == Outcome.OK else _failed_item(body))
    whole = b'{"items":[' + b",".join(bodies) + b"]}"
    try:
        return wire.reply(Outcome.OK, calls.served, calls.checked_size(whole))
    except TooLargeError as error:
        return calls.failure(error)


def _failed_item(problem: bytes) -> bytes:
    told = json.loads(problem)
    told.pop("traceback", None)  # it is in the log; the gateway does not look into values
    return json.dumps({"error": told}).encode()
