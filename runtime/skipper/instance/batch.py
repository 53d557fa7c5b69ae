"""Runs several calls as one: each is validated alone and answered alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from skipper.errors import TooLargeError
from skipper.instance.calls import Calls, IncomingCall
from skipper.outcomes import Outcome
from skipper.wire.calls import CHECK, parse_reply

Item = dict[str, Any]


class _Part(NamedTuple):
    """One call's share of a batch, and whether it sent it as ``{"items": […]}``.

    An item that does not match is its reply already.
    """

    id: int
    items: list[Item | bytes]
    is_many: bool


def run_batch(calls: Calls, batch: Sequence[IncomingCall]) -> tuple[list[int], dict[int, bytes]]:
    """The sizes of the batches that ran, and the reply to each call by its id."""
    replies: dict[int, bytes] = {}
    parts = [part for asked in batch if (part := _part_of(calls, asked, replies)) is not None]
    items = [item for part in parts for item in part.items if not isinstance(item, bytes)]
    sizes, answers = [], []
    for at in range(0, len(items), calls.batch):
        chunk = items[at : at + calls.batch]
        sizes.append(len(chunk))
        answers += _answers(calls, chunk)
    rest = iter(answers)
    for part in parts:
        own = [item if isinstance(item, bytes) else next(rest) for item in part.items]
        replies[part.id] = _gathered(calls, own) if part.is_many else own[0]
    return sizes, replies


def _part_of(calls: Calls, asked: IncomingCall, replies: dict[int, bytes]) -> _Part | None:
    """The items of a call; None where it has been answered already."""
    body = asked.body
    if asked.wants(CHECK):
        replies[asked.id] = calls.checked(body)
        return None
    if (items := calls.signature.parse_items(body)) is not None:
        judged = [calls.refusal(i) if isinstance(i, Exception) else i for i in items]
        return _Part(asked.id, judged, is_many=True)
    try:
        return _Part(asked.id, [calls.signature.parse(body)], is_many=False)
    except BaseException as error:  # noqa: BLE001 - a validator of the user's may raise anything
        replies[asked.id] = calls.refusal(error)
        return None


def _answers(calls: Calls, items: list[Item]) -> list[bytes]:
    """The reply for each item, whatever the function does."""
    defaults = calls.signature.defaults
    names = calls.signature.names
    columns = {
        name: [item[name] if name in item else defaults[name] for item in items] for name in names
    }
    try:
        values = _listed(calls.target(**columns, **calls.loaded))
        if len(values) != len(items):
            raise ValueError(
                f"a batch of {len(items)} items was answered with {len(values)} values"
            )
    except BaseException as error:  # noqa: BLE001 - what a function raises is data
        return [calls.failure(error)] * len(items)
    return [_answer(calls, value) for value in values]


def _listed(returned: Any) -> list[Any]:
    """The values in order. Raises TypeError for what has parts, but none for each item."""
    if isinstance(returned, str | bytes | Mapping | Set):
        kind = type(returned).__name__
        raise TypeError(f"a batch is answered with a list of values, not with a {kind}")
    return list(returned)


def _answer(calls: Calls, value: Any) -> bytes:
    if isinstance(value, BaseException):
        return calls.failure(value)
    try:
        return calls.good(calls.dump(value))
    except BaseException as error:  # noqa: BLE001 - one value that is not JSON fails alone
        return calls.failure(error)


def _gathered(calls: Calls, replies: list[bytes]) -> bytes:
    """One reply for the items of one call: the values, ``{"error": …}`` for each that failed."""
    bodies = []
    for reply in replies:
        outcome, _, body = parse_reply(reply)
        bodies.append(body if outcome == Outcome.OK else _failed_item(body))
    whole = b'{"items":[' + b",".join(bodies) + b"]}"
    try:
        return calls.good(calls.checked_size(whole))
    except TooLargeError as error:
        return calls.failure(error)


def _failed_item(problem: bytes) -> bytes:
    told = json.loads(problem)
    told.pop("traceback", None)  # it is in the log; the gateway does not look into values
    return json.dumps({"error": told}).encode()
