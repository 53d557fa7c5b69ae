from typing import Any

import pytest

from skipper.errors import DefinitionError
from skipper.function.model import Loaded, Model, models_in, outline


@pytest.mark.parametrize("name", ["boston", "a", "v1.2_b-c", "0", "x" * 63])
def test_a_name_that_fits_a_url_and_a_file_is_good(name: str) -> None:
    assert Model(name, object()).name == Loaded(name).name == name


@pytest.mark.parametrize(
    "name", ["", "x" * 64, ".hidden", "-dash", "_low", "a/b", "..", "a b", "é", "a\n", 3, None]
)
def test_any_other_name_is_refused_where_it_is_written(name: Any) -> None:
    for make in (lambda: Model(name, object()), lambda: Loaded(name)):
        with pytest.raises(DefinitionError, match="cannot name a model"):
            make()


def test_a_model_has_no_metrics_by_default() -> None:
    assert Model("m", 1).metrics == {}


@pytest.mark.parametrize("text", ["boston@7", "boston@candidate", "boston@best"])
def test_a_parameter_may_ask_for_one_version(text: str) -> None:
    assert Loaded(text).name == text
    with pytest.raises(DefinitionError, match="cannot name a model"):
        Model(text, object())


@pytest.mark.parametrize("text", ["boston@", "boston@0", "boston@a b", "@7", "boston@7@8"])
def test_a_version_that_cannot_be_is_refused_where_it_is_written(text: str) -> None:
    with pytest.raises(DefinitionError, match=r"names no version|cannot name a model"):
        Loaded(text)


@pytest.mark.parametrize("name", ["churn-{customer", "{a.b}", "{0}", "{}", "{a!r}", "{a:>9}"])
def test_a_name_that_calls_fill_has_names_of_parameters_alone(name: str) -> None:
    with pytest.raises(DefinitionError):
        Loaded(name)


def test_max_loaded_is_a_number_from_one() -> None:
    with pytest.raises(DefinitionError, match="max_loaded"):
        Loaded("churn-{customer}", max_loaded=0)


# --- what a training returns ---------------------------------------------------------------

ONE, TWO = Model("one", 1), Model("two", 2)


@pytest.mark.parametrize(
    ("value", "found", "shape"),
    [
        (ONE, [ONE], 0),
        ([ONE, TWO], [ONE, TWO], [0, 1]),
        ((ONE, TWO), [ONE, TWO], [0, 1]),
        ({"a": ONE, 2: TWO}, [ONE, TWO], {"a": 0, "2": 1}),
    ],
)
def test_one_model_or_a_list_tuple_or_dict_of_them_is_published(
    value: Any, found: list[Model], shape: Any
) -> None:
    assert models_in(value) == found
    assert outline(value) == shape


@pytest.mark.parametrize("value", [None, [], {}, (), [1, 2], {"a": [ONE]}, "text", object()])
def test_everything_else_is_a_value(value: Any) -> None:
    assert models_in(value) == []


@pytest.mark.parametrize("value", [[ONE, 0.5], {"model": ONE, "loss": 1}, (ONE, None)])
def test_models_among_other_things_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="return models alone"):
        models_in(value)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError, match="are called 'one'"):
        models_in([ONE, Model("one", 3)])
