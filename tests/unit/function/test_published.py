"""A hint with models that could never be published is told before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest

import skipper
from skipper.errors import DefinitionError
from skipper.function.model import Model
from skipper.function.published import check_models, has_model
from skipper.function.signature import signature_of


@pytest.mark.parametrize(
    "returned",
    [
        Model,
        Model | None,
        Model | dict[str, int],
        list[Model],
        tuple[Model, ...],
        tuple[Model, Model],
        dict[str, Model],
        list[Model] | None,
        Annotated[Model, "said"],
        int,
        None,
        Any,
    ],
    ids=str,
)
def test_models_alone_or_in_one_list_tuple_or_dict_are_published(returned: Any) -> None:
    check_models(returned, streams=False)


@pytest.mark.parametrize(
    "returned",
    [
        tuple[Model, float],
        list[Model | None],
        dict[str, list[Model]],
        list[list[Model]],
        dict[str, Model | float],
        set[Model],
    ],
    ids=str,
)
def test_models_among_other_things_are_told_when_the_file_is_read(returned: Any) -> None:
    assert has_model(returned)
    with pytest.raises(DefinitionError, match=r"publish them with run\.save"):
        check_models(returned, streams=False)


def streamed() -> Iterator[skipper.Model]:
    yield skipper.Model("m", 1)


def test_a_generator_publishes_nothing_that_it_yields() -> None:
    with pytest.raises(DefinitionError, match=r"publish them with run\.save"):
        signature_of(streamed)
