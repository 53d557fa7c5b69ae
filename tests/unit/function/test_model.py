from typing import Any

import pytest

from skipper.errors import DefinitionError
from skipper.function.model import Loaded, Model


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
