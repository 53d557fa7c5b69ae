"""What stands below ``@skipper.…``: the author's function, found through decorators of its own."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, cast

from skipper.errors import DefinitionError

_LAYERS = 50
"""More decorators than that are a circle."""


def function_below(target: Callable[..., Any]) -> Callable[..., Any]:
    """The function or class that gives name, place and description: what the author wrote.

    Decorators between it and ``target`` are passed, whether or not they use ``functools.wraps``.
    Raises DefinitionError for what has no name, and where it cannot be found.
    """
    return _named(innermost(target))


def innermost(target: Callable[..., Any]) -> Callable[..., Any]:
    """What is left of ``target`` without its decorators: it has the type hints."""
    *_, last = _layers(target)
    return last


def declared_by(target: Callable[..., Any]) -> Callable[..., Any]:
    """What declares the parameters: the outermost layer that names any.

    A ``functools.partial`` does, and whatever takes more than ``*args, **kwargs`` and does not say
    of itself, by ``functools.wraps``, that it takes what another one takes.
    """
    for layer in _layers(target):
        if not _takes_anything(layer) and not hasattr(layer, "__wrapped__"):
            return layer
    return innermost(target)


def remembers(wrapper: object, inner: object) -> bool:
    """Whether ``wrapper`` is made of ``inner``, in whatever way a decorator keeps what it wraps."""
    waiting: list[object] = [wrapper]
    for _ in range(_LAYERS):
        if not waiting:
            break
        kept = list(_kept_by(waiting.pop()))
        if any(each is inner for each in kept):
            return True
        waiting += filter(callable, kept)
    return False


def _kept_by(wrapper: object) -> Iterator[object]:
    """What is in a function's closure, a partial or a callable object of a class."""
    if inspect.isfunction(wrapper):
        for cell in wrapper.__closure__ or ():
            with contextlib.suppress(ValueError):  # one that nothing has been put into
                yield cell.cell_contents
    elif isinstance(wrapper, functools.partial):
        yield wrapper.func
    elif callable(wrapper) and not inspect.isclass(wrapper) and not inspect.ismodule(wrapper):
        yield from vars(wrapper).values() if hasattr(wrapper, "__dict__") else ()
        yield getattr(wrapper, "__wrapped__", None)  # of functools.lru_cache, for one


def _layers(target: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """The target and what it wraps, from the outside in. Raises DefinitionError for a circle."""
    layer: Callable[..., Any] | None = target
    for _ in range(_LAYERS):
        if layer is None:
            return
        yield layer
        layer = _inner(layer)
    raise DefinitionError(f"{target!r:.200} is a circle of decorators.")


def _inner(layer: Callable[..., Any]) -> Callable[..., Any] | None:
    if inspect.isclass(layer):
        return None
    if isinstance(layer, functools.partial):
        return layer.func
    if (wrapped := getattr(layer, "__wrapped__", None)) is not None:
        return cast(Callable[..., Any], wrapped)
    if inspect.isfunction(layer) and _is_local(layer) and _takes_anything(layer):
        return _only_function(layer)
    return None


def _only_function(wrapper: Callable[..., Any]) -> Callable[..., Any] | None:
    """The one function that a wrapper without ``functools.wraps`` remembers."""
    remembered = inspect.getclosurevars(wrapper).nonlocals.values()
    functions = [each for each in remembered if inspect.isfunction(each) or _is_partial(each)]
    written = [each for each in functions if _is_partial(each) or not _is_local(each)] or functions
    return written[0] if len(written) == 1 else None


def _named(found: Callable[..., Any]) -> Callable[..., Any]:
    name = getattr(found, "__qualname__", "")
    if not name:
        raise DefinitionError(
            f"{found!r:.200} has no name that callers could use: write a function or a class, or "
            "have what decorates it call functools.update_wrapper."
        )
    if name.endswith("<lambda>"):
        raise DefinitionError("a lambda has no name that callers could use: write `def name(…)`.")
    outer = name.rpartition(".")[0]
    if outer and not outer.endswith("<locals>"):
        raise DefinitionError(
            f"{name} is a method, which nobody has an object for: decorate the class, and name the "
            "method __call__."
        )
    return found


def _takes_anything(layer: Callable[..., Any]) -> bool:
    """Whether its own parameters, without those of what it wraps, are only ``*args, **kwargs``."""
    if not inspect.isfunction(layer):
        return False
    code = layer.__code__
    has_both = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    return code.co_flags & has_both == has_both and code.co_argcount == code.co_kwonlyargcount == 0


def _is_local(function: Callable[..., Any]) -> bool:
    return "<locals>" in function.__qualname__


def _is_partial(value: object) -> bool:
    return isinstance(value, functools.partial)
