"""coleifer/huey#429 and its kin: what decorators between ours and the function do to it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import skipper
from skipper.errors import DefinitionError
from skipper.function.decorators import Function


def bare(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that forgets whose function it wraps."""

    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) + 1

    return inner


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) + 1

    return inner


def with_option(step: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator with an argument, and with a function of its own in its closure."""

    def add(value: int) -> int:
        return value + step

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            return add(function(*args, **kwargs))

        return inner

    return decorate


class Remembering:
    """A decorator that is a class."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs) + 1


def twice(n: int, *, add: int = 0) -> int:
    """Twice a number."""
    return 2 * n + add


LINE = inspect.getsourcelines(twice)[1]


@pytest.mark.parametrize(
    ("decorate", "value"),
    [
        (lambda f: f, 6),
        (bare, 7),
        (wrapped, 7),
        (with_option(1), 7),
        (functools.lru_cache, 6),
        (functools.cache, 6),
        (Remembering, 7),
        (lambda f: bare(bare(f)), 8),
        (lambda f: wrapped(bare(f)), 8),
        (lambda f: bare(wrapped(f)), 8),
        (lambda f: functools.lru_cache(maxsize=2)(bare(f)), 7),
        (functools.partial, 6),
        (lambda f: bare(functools.partial(f)), 7),
    ],
)
def test_a_decorated_function_keeps_its_name_place_and_parameters(
    decorate: Callable[[Any], Any], value: int
) -> None:
    function: Function[..., Any] = skipper.data(decorate(twice))
    spec = function.spec("c0de")
    assert (spec.name, spec.summary) == ("test_targets.twice", "Twice a number.")
    assert (spec.file, spec.line) == (__file__, LINE)
    assert list(spec.input_schema["properties"]) == ["n", "add"]
    assert spec.input_schema["required"] == ["n"]
    assert spec.output_schema == {"type": "integer"}
    assert function.callable(**function.signature.parse(b'{"n": 3}')) == value


def test_a_partial_has_what_it_leaves_open() -> None:
    function: Function[..., Any] = skipper.data(functools.partial(twice, add=5))
    assert function.spec("").input_schema["properties"]["add"]["default"] == 5
    assert function.callable(**function.signature.parse(b'{"n": 3}')) == 11


def test_a_partial_below_a_wrapper_that_forgets_it() -> None:
    function: Function[..., Any] = skipper.data(bare(functools.partial(twice, add=5)))
    assert function.name == "test_targets.twice"
    assert function.callable(**function.signature.parse(b'{"n": 3}')) == 12


class Anonymous:
    def __call__(self, n: int) -> int:
        return n


class Holder:
    def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...

    @classmethod
    def of_class(cls) -> None: ...


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda n: n, "a lambda has no name"),
        (functools.partial(lambda n: n, 1), "a lambda has no name"),
        (bare(lambda n: n), "a lambda has no name"),
        (Anonymous(), "functools.update_wrapper"),
        (Holder.method, r"Holder\.method is a method"),
        (Holder.static, r"Holder\.static is a method"),
        (Holder.of_class, r"Holder\.of_class is a method"),
        (wrapped(Holder.method), r"Holder\.method is a method"),
    ],
)
def test_what_callers_could_not_name_is_refused_with_what_to_write(
    target: Any, message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        skipper.data(target)


def test_a_circle_of_decorators_ends() -> None:
    circle: Any = wrapped(twice)
    circle.__wrapped__ = circle
    with pytest.raises(DefinitionError, match="circle"):
        skipper.data(circle)


def test_one_function_decorated_twice_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"keep one of @skipper\.data and @skipper\.training"):
        skipper.training(skipper.data(twice))
