"""How a version of a model is written, and what no text means."""

from typing import Any

import pytest

from skipper.errors import DefinitionError
from skipper.selectors import Role, Selector, check_alias, parse, parse_at


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("boston", Role.PRODUCTION),
        ("boston@production", Role.PRODUCTION),
        ("boston@previous", Role.PREVIOUS),
        ("boston@candidate", Role.CANDIDATE),
        ("boston@shadow", Role.SHADOW),
        ("boston@latest", Role.LATEST),
        ("boston@1", 1),
        ("boston@2147483647", 2147483647),
        ("boston@best", "best"),
        ("boston@v1.2", "v1.2"),
    ],
)
def test_a_version_is_its_number_its_role_or_an_alias(text: str, at: Any) -> None:
    assert parse(text) == Selector("boston", at)
    assert parse(text).is_pinned is isinstance(at, int)
    assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    "at", ["", "0", "07", "-1", "+1", "1.5", "2147483648", "٣", "_x", "a/b", "a@b", "x" * 64, "a\n"]
)
def test_anything_else_names_no_version(at: str) -> None:
    with pytest.raises(DefinitionError, match="names no version of a model: after '@'"):
        parse_at(at)


@pytest.mark.parametrize("text", ["", "@7", " boston", "a b@7", 3, None])
def test_without_a_name_there_is_no_version(text: Any) -> None:
    with pytest.raises(DefinitionError, match="cannot name a model"):
        parse(text)


@pytest.mark.parametrize("alias", ["latest", "production", "Previous", "CANDIDATE", "shadow"])
def test_a_word_that_says_what_a_version_is_is_no_alias(alias: str) -> None:
    with pytest.raises(DefinitionError, match="no alias of one's own"):
        check_alias(alias)


@pytest.mark.parametrize("alias", ["", "7", "7up", "a b", "a/b", "x" * 64, "é"])
def test_an_alias_is_a_word_that_is_no_number(alias: str) -> None:
    with pytest.raises(DefinitionError, match="cannot be an alias"):
        check_alias(alias)


def test_a_word_of_one_s_own_is_an_alias() -> None:
    check_alias("best")
