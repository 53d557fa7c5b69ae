"""Runs several calls as one: each is validated alone and answered alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from skipper.errors import TooLargeError
from skipper.instance.calls import IncomingCall, ServedFunction
from skipper.outcomes import Outcome
from skipper.wire.calls import parse_reply

Item = dict[str, Any]


class _Part(NamedTuple):
    """One call's share of a batch."""

    id: int
    items: list[Item | bytes]
    """Keyword arguments or, for an item that does not match, the reply."""
    is_many: bool
    """Whether they came as ``{"items": […]}``, and are answered as that."""


def run_batch(
    function: ServedFunction, batch: Sequence[IncomingCall]
) -> tuple[list[int], dict[int, bytes]]:
    """Call the function with the items of all these calls, ``function.batch`` at a time.

    The sizes of the batches that ran, in items, and the reply to each call by its id. What the
    function raises is a reply, too.
    """
    replies: dict[int, bytes] = {}
    parts = [part for call in batch if (part := _part_of(function, call, replies)) is not None]
    items = [item for part in parts for item in part.items if not isinstance(item, bytes)]
    sizes, answers = [], []
    for at in range(0, len(items), function.batch):
        chunk = items[at : at + function.batch]
        sizes.append(len(chunk))
        answers += _answers(function, batch[0], chunk)
    rest = iter(answers)
    for part in parts:
        own = [item if isinstance(item, bytes) else next(rest) for item in part.items]
        replies[part.id] = _gathered(function, own) if part.is_many else own[0]
    return sizes, replies


def _part_of(
    function: ServedFunction, call: IncomingCall, replies: dict[int, bytes]
) -> _Part | None:
    """The items of a call; None where it has been answered already."""
    body = call.body
    if (items := function.signature.parse_items(body)) is not None:
        checked = [function.refusal(i) if isinstance(i, Exception) else i for i in items]
        return _Part(call.id, checked, is_many=True)
    try:
        return _Part(call.id, [function.signature.parse(body)], is_many=False)
    except BaseException as error:  # noqa: BLE001 - a validator of the user's may raise anything
        replies[call.id] = function.refusal(error)
        return None


def _answers(function: ServedFunction, call: IncomingCall, items: list[Item]) -> list[bytes]:
    """The reply for each item, whatever the function does. ``call`` is one of those they are of."""
    defaults = function.signature.defaults
    names = function.signature.names
    columns = {
        name: [item[name] if name in item else defaults[name] for item in items] for name in names
    }
    try:
        values = _listed(function.target(**columns, **function.models(call)))
        if len(values) != len(items):
            raise ValueError(
                f"a batch of {len(items)} items was answered with {len(values)} values"
            )
    except BaseException as error:  # noqa: BLE001 - what a function raises is data
        return [function.failure(error)] * len(items)
    return [_answer(function, value) for value in values]


def _listed(returned: Any) -> list[Any]:
    """The values in order. Raises TypeError for what has parts, but none for each item."""
    if isinstance(returned, str | bytes | Mapping | Set):
        kind = type(returned).__name__
        raise TypeError(f"a batch is answered with a list of values, not with a {kind}")
    return list(returned)


def _answer(function: ServedFunction, value: Any) -> bytes:
    if isinstance(value, BaseException):
        return function.failure(value)
    try:
        return function.success(function.dump(value))
    except BaseException as error:  # noqa: BLE001 - one value that is not JSON fails alone
        return function.failure(error)


def _gathered(function: ServedFunction, replies: list[bytes]) -> bytes:
    """One reply for the items of one call: the values, ``{"error": …}`` for each that failed."""
    bodies = []
    for reply in replies:
        outcome, _, body = parse_reply(reply)
        bodies.append(body if outcome == Outcome.OK else _failed_item(body))
    whole = b'{"items":[' + b",".join(bodies) + b"]}"
    try:
        return function.success(function.checked_size(whole))
    except TooLargeError as error:
        return function.failure(error)


def _failed_item(problem: bytes) -> bytes:
    members = json.loads(problem)
    # The gateway takes tracebacks from problems, but does not look into values.
    members.pop("traceback", None)
    return json.dumps({"error": members}).encode()
