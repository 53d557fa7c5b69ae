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

    call: IncomingCall
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
    matching = [
        (part, item) for part in parts for item in part.items if not isinstance(item, bytes)
    ]
    sizes, answers = [], []
    for at in range(0, len(matching), function.batch):
        chunk = matching[at : at + function.batch]
        sizes.append(len(chunk))
        values = _values(function, batch[0], [item for _, item in chunk])
        answers += [
            _answer(function, part, value) for (part, _), value in zip(chunk, values, strict=True)
        ]
    rest = iter(answers)
    for part in parts:
        own = [item if isinstance(item, bytes) else next(rest) for item in part.items]
        replies[part.call.id] = _gathered(function, own) if part.is_many else own[0]
    return sizes, replies


def _part_of(
    function: ServedFunction, call: IncomingCall, replies: dict[int, bytes]
) -> _Part | None:
    """The items of a call; None where it has been answered already."""
    try:
        body, signature = function.text(call), function.signature
        if (items := signature.parse_items(body, call.parts)) is not None:
            checked = [function.refusal(i) if isinstance(i, Exception) else i for i in items]
            return _Part(call, checked, is_many=True)
        return _Part(call, [signature.parse(body, call.parts)], is_many=False)
    except BaseException as error:  # noqa: BLE001 - a validator of the user's may raise anything
        replies[call.id] = function.refusal(error)
        return None


def _values(function: ServedFunction, call: IncomingCall, items: list[Item]) -> list[Any]:
    """The value for each item, or what was raised. ``call`` is one of those they are of."""
    try:
        columns = {name: _column(function, name, items) for name in function.signature.names}
        returned = function.target(**columns, **function.models(call))
        if function.splits is not None:
            return list(function.splits.split(returned, len(items)))
        values = _listed(returned)
        if len(values) != len(items):
            raise ValueError(
                f"a batch of {len(items)} items was answered with {len(values)} values"
            )
    except BaseException as error:  # noqa: BLE001 - what a function raises is data
        return [error] * len(items)
    return values


def _column(function: ServedFunction, name: str, items: list[Item]) -> Any:
    """What the items have for one parameter: a list, or one value of them all."""
    defaults = function.signature.defaults
    column = [item[name] if name in item else defaults[name] for item in items]
    stacking = function.stacks.get(name)
    return column if stacking is None else stacking.stacked(column)


def _listed(returned: Any) -> list[Any]:
    """The values in order. Raises TypeError for what has parts, but none for each item."""
    if isinstance(returned, str | bytes | Mapping | Set):
        kind = type(returned).__name__
        raise TypeError(f"a batch is answered with a list of values, not with a {kind}")
    return list(returned)


def _answer(function: ServedFunction, part: _Part, value: Any) -> bytes:
    if isinstance(value, BaseException):
        return function.failure(value)
    try:
        # Of several items in one answer each is JSON, whatever the caller accepts.
        body = function.dump(value) if part.is_many else function.written(part.call, value)
        return function.success(body)
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
