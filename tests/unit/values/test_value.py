import pytest

from skipper.values.value import JSON, Value


def test_a_value_is_in_one_place() -> None:
    assert Value(inline=b"").inline == b""
    assert Value(ref="ab").ref == "ab"


@pytest.mark.parametrize("places", [{}, {"inline": b"", "ref": "ab"}])
def test_neither_in_no_place_nor_in_two(places: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either inline or in the store"):
        Value(**places)  # type: ignore[arg-type] # as many as the case gives


def test_a_value_is_json_unless_it_says_otherwise() -> None:
    assert Value(inline=b"1").media_type == JSON
