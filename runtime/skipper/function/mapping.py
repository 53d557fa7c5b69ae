"""What ``map`` and ``starmap`` call a function with, and whose item an error is of. No I/O.

One contract for ``f.map`` and ``client.map``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from skipper.errors import SkipperError

WINDOW = 64
"""How many items of one ``f.map`` are under way at once; more are not taken from its iterables."""
T = TypeVar("T")


class Arguments(NamedTuple):
    """Those of one call."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}


def of_items(names: Sequence[str], iterables: Sequence[Iterable[Any]]) -> Iterator[Arguments]:
    """The arguments of each call: an item of each iterable, taken as they are needed.

    A dict from one alone has the arguments by name, where the function takes several, and these.
    Raises TypeError for no iterable, ValueError where one ends before the others.
    """
    if not iterables:
        raise TypeError("map needs at least one iterable")
    if len(iterables) > 1:
        return (Arguments(items) for items in zip(*iterables, strict=True))
    return (_of_item(names, item) for item in iterables[0])


def of_tuples(tuples: Iterable[Iterable[Any]]) -> Iterator[Arguments]:
    """The arguments of each call, one tuple a call."""
    return (Arguments(tuple(each)) for each in tuples)


def _of_item(names: Sequence[str], item: Any) -> Arguments:
    if isinstance(item, Mapping) and len(names) > 1 and set(item) <= set(names):
        return Arguments((), item)
    return Arguments((item,))


def in_order(
    calls: Iterator[Arguments],
    start: Callable[[Arguments], Callable[[], T]],
    *,
    keeps_errors: bool,
    window: int = WINDOW,
) -> Iterator[T | Exception]:
    """The values of calls, in their order; at most ``window`` are under way.

    ``start`` begins one and returns what waits for its value. An error names its item; where
    ``keeps_errors`` it stands in place of the value, else it is raised.
    """
    waiting: deque[tuple[int, Callable[[], T]]] = deque()
    for index, arguments in enumerate(calls):
        if len(waiting) == window:
            yield _ended(*waiting.popleft(), keeps_errors=keeps_errors)
        try:
            waiting.append((index, start(arguments)))
        except Exception as error:
            of_item(error, index)
            if not keeps_errors:
                raise
            waiting.append((index, _raising(error)))
    while waiting:
        yield _ended(*waiting.popleft(), keeps_errors=keeps_errors)


def _ended(index: int, wait: Callable[[], T], *, keeps_errors: bool) -> T | Exception:
    try:
        return wait()
    except Exception as error:
        of_item(error, index)
        if keeps_errors:
            return error
        raise


def _raising(error: Exception) -> Callable[[], Any]:
    def wait() -> Any:
        raise error

    return wait


def of_item(error: Exception, index: int) -> None:
    """Have an error say of which item it is, once."""
    if getattr(error, "item", None) is not None:
        return
    if isinstance(error, SkipperError):
        error.item = index
    first, *rest = error.args or ("",)
    if not str(first).startswith(f"item {index}: "):
        error.args = (f"item {index}: {first}", *rest)
