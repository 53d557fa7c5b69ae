import pytest

from skipper.errors import DefinitionError
from skipper.function.mistakes import Mistake, keeping, tell


def test_a_mistake_is_raised_where_nobody_keeps_it() -> None:
    with pytest.raises(DefinitionError, match="no good"):
        tell("a.f", DefinitionError("no good"))


def test_mistakes_are_kept_within_a_block_and_raised_after_it() -> None:
    mistakes: list[Mistake] = []
    error = DefinitionError("no good")
    with keeping(mistakes):
        tell("a.f", error)
        inner: list[Mistake] = []
        with keeping(inner):
            tell("a.g", error)
    assert mistakes == [Mistake("a.f", error)]
    assert inner == [Mistake("a.g", error)]
    with pytest.raises(DefinitionError):
        tell("a.h", error)


def test_what_ends_the_block_ends_the_keeping() -> None:
    with pytest.raises(KeyError), keeping([]):
        raise KeyError
    with pytest.raises(DefinitionError):
        tell("a.f", DefinitionError("no good"))
