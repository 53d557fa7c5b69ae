"""Runs several calls as one: each is validated alone and answered alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from math import inf
from typing import Any, NamedTuple

from skipper.errors import DeadlineError, NotFoundError, TooLargeError
from skipper.instance.calls import IncomingCall, ServedFunction
from skipper.outcomes import Outcome
from skipper.wire.calls import parse_reply

Item = dict[str, Any]
Values = list[Any]
"""One value for each item, or what was raised for it."""


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
    first = None
    if function.signature.stacks and not function.by_call:
        first = _read_together(function, batch)
    if first is not None and not isinstance(first.values, Exception):
        whole = zip(batch, first.values, strict=True)
        answered = {c.id: _answer(function, _Part(c, [], is_many=False), v) for c, v in whole}
        return [len(batch)], answered
    replies: dict[int, bytes] = {}
    parts = [part for call in batch if (part := _part_of(function, call, replies)) is not None]
    matching = [
        (part, item) for part in parts for item in part.items if not isinstance(item, bytes)
    ]
    sizes, answers = [], {}
    for chunk in _chunks(function, [item for _, item in matching]):
        function.begin_group()
        sizes.append(len(chunk))
        calls = [matching[at][0].call for at in chunk]
        values = _values(function, calls, [matching[at][1] for at in chunk], first)
        for at, value in zip(chunk, values, strict=True):
            answers[at] = _answer(function, matching[at][0], value)
    rest = iter([answers[at] for at in sorted(answers)])
    for part in parts:
        own = [item if isinstance(item, bytes) else next(rest) for item in part.items]
        replies[part.call.id] = _gathered(function, own) if part.is_many else own[0]
    return sizes, replies


class _First(NamedTuple):
    """What came of the first attempt, of items that were read together."""

    values: Values | Exception
    took_s: float


def _read_together(function: ServedFunction, batch: Sequence[IncomingCall]) -> _First | None:
    """The values for single items in JSON that all match.

    For few numbers of each caller, to read them one by one takes longer than all else. None where
    one of them has to be looked at by itself: nothing has been called then.
    """
    if len(batch) > function.batch or (columns := _plain_columns(function, batch)) is None:
        return None
    began = time.monotonic()
    function.begin_group()
    values = _call(function, batch[0], columns, {}, len(batch))
    return _First(values, time.monotonic() - began)


def _plain_columns(
    function: ServedFunction, batch: Sequence[IncomingCall]
) -> dict[str, Any] | None:
    signature, items = function.signature, []
    for call in batch:
        if (item := signature.parse_plain(call.body)) is None:
            return None
        items.append(item)
    columns = {}
    for name in signature.names:
        if (stacking := signature.stacks.get(name)) is None:
            columns[name] = _column(function, name, items)
        elif (read := stacking.stacked_json([item[name] for item in items])) is not None:
            columns[name] = read
        else:
            return None
    return columns


def _chunks(function: ServedFunction, items: Sequence[Item]) -> Iterator[list[int]]:
    """The places of items that run as one: of one model, at most ``function.batch``."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for at, item in enumerate(items):
        groups.setdefault(_models_of(function, item), []).append(at)
    for group in groups.values():
        for first in range(0, len(group), function.batch):
            yield group[first : first + function.batch]


def _models_of(function: ServedFunction, item: Item) -> tuple[str, ...]:
    """What parts an item from those that other models are for."""
    if not function.by_call:
        return ()
    try:
        return tuple(function.model_names(item).values())
    except NotFoundError as error:
        return "", str(error)


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


def _values(
    function: ServedFunction,
    calls: Sequence[IncomingCall],
    items: list[Item],
    first: _First | None,
) -> Values:
    """The value for each item, or what was raised. ``calls`` are those that they are of.

    The ``first`` attempt may have been made.
    """
    began = time.monotonic()
    values = _attempt(function, calls[0], items) if first is None else first.values
    if not isinstance(values, Exception):
        return values
    took = time.monotonic() - began if first is None else first.took_s
    return _singled_out(function, calls, items, values, _ends(calls, began) - took)


def _singled_out(
    function: ServedFunction,
    calls: Sequence[IncomingCall],
    items: list[Item],
    error: Exception,
    until: float,
) -> Values:
    """The values of items that together raised ``error``: halves run again, and halves of those.

    So that it stays with the items that it comes from. Not after ``until``, because whoever waits
    for a good answer then would get none at all.
    """
    if len(items) == 1 or isinstance(error, DeadlineError):
        return [error] * len(items)
    values: Values = []
    middle = len(items) // 2
    for half in (items[:middle], items[middle:]):
        if time.monotonic() > until:
            values += [error] * len(half)
            continue
        made = _attempt(function, calls[0], half)
        if isinstance(made, Exception):
            made = _singled_out(function, calls, half, made, until)
        values += made
    return values


def _ends(calls: Sequence[IncomingCall], began: float) -> float:
    """When, after they ``began``, the first of them passes its deadline."""
    return min((began + c.head.budget_ms / 1000 for c in calls if c.head.budget_ms), default=inf)


def _attempt(function: ServedFunction, call: IncomingCall, items: list[Item]) -> Values | Exception:
    """What the function answers these items with, or what it raises for them.

    What is no answer to so many items is a fault of the function, and the value of each.
    """
    try:
        columns = {name: _column(function, name, items) for name in function.signature.names}
    except Exception as error:  # noqa: BLE001 - such as arrays that do not fit together
        return error
    return _call(function, call, columns, items[0], len(items))


def _call(
    function: ServedFunction, call: IncomingCall, columns: Item, asking: Item, count: int
) -> Values | Exception:
    """What the function answers ``count`` items with, or what it raises for them.

    ``asking`` is one of them, which says what models they ask for.
    """
    try:
        models = function.models(call) | function.asked_models(asking)
        returned = function.target(**columns, **models, **function.batch_runs())
    except Exception as error:  # noqa: BLE001 - what a function raises is data
        return error
    except BaseException as error:  # noqa: BLE001 - and so is its wish to end
        return [error] * count
    try:
        return _apart(function, returned, count)
    except BaseException as error:  # noqa: BLE001 - an iterator of the user's may raise anything
        return [error] * count


def _apart(function: ServedFunction, returned: Any, count: int) -> Values:
    """The ``count`` values that were returned together. Raises where they are none, or others."""
    if function.splits is not None:
        return list(function.splits.split(returned, count))
    values = _listed(returned)
    if len(values) != count:
        raise ValueError(f"a batch of {count} items was answered with {len(values)} values")
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
        body = function.whole(value) if part.is_many else function.written(part.call, value)
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
