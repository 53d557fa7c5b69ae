from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import BaseModel, Field

import skipper
from skipper.errors import DefinitionError
from skipper.function.parameters import body_type, of_one_item, parameters_of, type_name


class House(BaseModel):
    rooms: int


def injected(
    n: int,
    *,
    run: skipper.Run,
    net: Annotated[object, skipper.Loaded("boston")],
    scale: float = 1.0,
) -> None: ...


def test_each_parameter_is_filled_by_the_body_or_by_the_runtime() -> None:
    found = parameters_of(injected, is_method=False)
    assert found.run == ("run",)
    assert found.loaded == {"net": "boston"}
    assert [parameter.name for parameter in found.body] == ["n", "scale"]


class Predicts:
    def __call__(self, house: House) -> float:
        return 0.0


def of_a_model(house: House) -> float: ...  # type: ignore[empty-body] # only the signature counts
def of_a_described_model(house: Annotated[House, Field(description="d")]) -> float: ...  # type: ignore[empty-body] # as above
def of_two(house: House, scale: float = 1.0) -> float: ...  # type: ignore[empty-body] # as above
def of_a_list(values: list[float]) -> float: ...  # type: ignore[empty-body] # as above
def of_nothing() -> None: ...


def test_a_method_takes_itself_from_nobody() -> None:
    found = parameters_of(Predicts.__call__, is_method=True)
    assert [parameter.name for parameter in found.body] == ["house"]


@pytest.mark.parametrize(
    ("function", "sole"),
    [
        (of_a_model, "house"),
        (of_a_described_model, "house"),
        (of_two, None),
        (of_a_list, None),
        (of_nothing, None),
    ],
)
def test_only_a_model_that_stands_alone_is_the_whole_body(
    function: Callable[..., Any], sole: str | None
) -> None:
    assert parameters_of(function, is_method=False).sole == sole


def class_is_not_json(lock: ExitStack) -> None: ...
def function_is_not_json(f: Callable[[int], int]) -> None: ...
def many(*values: int) -> None: ...
def named(**values: int) -> None: ...
def positional(a: int, /) -> None: ...
def loose_run(run: skipper.Run) -> None: ...
def loose_model(net: Annotated[object, skipper.Loaded("boston")]) -> None: ...
def unknown(a: Missing) -> None: ...  # type: ignore[name-defined] # noqa: F821 - on purpose


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (class_is_not_json, "parameter 'lock': contextlib.ExitStack cannot come from callers"),
        (function_is_not_json, "parameter 'f'"),
        (many, "*values has no schema"),
        (named, "**values has no schema"),
        (positional, "remove the `/`"),
        (loose_run, "write `*, run` after the others"),
        (loose_model, "write `*, net` after the others"),
        (unknown, "name 'Missing' is not defined"),
    ],
)
def test_a_parameter_that_nothing_can_fill_is_refused_with_what_to_write(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        body_type("f", parameters_of(function, is_method=False))
    assert message in str(caught.value)


# --- batches -------------------------------------------------------------------------------


def of_lists(
    houses: list[House],
    notes: Sequence[str],
    rest: list,  # type: ignore[type-arg] # on purpose
    *,
    net: Annotated[object, skipper.Loaded("boston")],
) -> list[float]:
    return []


def of_lists_untyped(houses) -> Any: ...  # type: ignore[no-untyped-def] # on purpose


def test_in_a_batch_the_types_are_those_of_one_callers_item() -> None:
    found = of_one_item(of_lists, parameters_of(of_lists, is_method=False))
    assert [found.hints[p.name] for p in found.body] == [House, str, Any]
    assert (found.returned, found.loaded) == (float, {"net": "boston"})
    untyped = of_one_item(of_lists_untyped, parameters_of(of_lists_untyped, is_method=False))
    assert (untyped.hints["houses"], untyped.returned) == (Any, Any)


def with_default(n: list[int] = []) -> list[int]: ...  # type: ignore[empty-body] # noqa: B006 - on purpose
async def waiting(n: list[int]) -> list[int]: ...  # type: ignore[empty-body] # as above
async def counting(n: list[int]) -> AsyncIterator[int]:
    yield 1


def counts() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (of_a_model, f"write list[{type_name(House)}]"),
        (with_default, "'n' of a batch cannot have a default"),
        (waiting, "no async def"),
        (counting, "no generator"),
        (counts, "no generator"),
        (of_nothing, "needs a parameter"),
    ],
)
def test_a_function_that_cannot_take_batches_is_refused(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        of_one_item(function, parameters_of(function, is_method=False))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("hint", "name"),
    [(int, "int"), (np.ndarray, "numpy.ndarray"), (list[float], "list[float]")],
)
def test_messages_name_a_type_as_it_is_written(hint: Any, name: str) -> None:
    assert type_name(hint) == name


RIVER = skipper.Loaded("river")


def _plain(model=RIVER): ...  # type: ignore[no-untyped-def]
def _hinted(n: int, model: Any = RIVER) -> None: ...
def _keyword(*, model: Any = RIVER) -> None: ...


@pytest.mark.parametrize("call", [_plain, _hinted, _keyword])
def test_a_model_that_is_asked_for_by_a_default_is_refused_with_what_to_write(
    call: Callable[..., Any],
) -> None:
    """The function would be given the marker itself."""
    with pytest.raises(DefinitionError, match=r"write `\*, model: Annotated\[Any, skipper.Loaded"):
        parameters_of(call, is_method=False)
