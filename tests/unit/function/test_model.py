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
