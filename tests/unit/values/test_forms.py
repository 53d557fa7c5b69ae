"""What a text stands for is decided by the schema alone, never by how the text looks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from skipper.values.crossing import Adapter
from skipper.values.file import File
from skipper.values.forms import from_text, is_free, is_list, member_schema, properties

FILE_ID = "file-" + "0af9" * 8


class Colour(Enum):
    RED = "red"
    NONE = "null"


class Level(Enum):
    LOW = 1
    HIGH = 2


class House(BaseModel):
    rm: float
    zip: str = ""
    beds: list[int] = []
    next: House | None = None


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    lives: int = 1
    name: str = ""


@dataclass
class Point:
    x: int
    y: int


def schema_of(hint: Any) -> dict[str, Any]:
    return Adapter(hint).json_schema()


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (str, "90210", "90210"),
        (str, "007", "007"),
        (str, "null", "null"),
        (str, "true", "true"),
        (str, "", ""),
        (str, '{"a": 1}', '{"a": 1}'),
        (str, " a ", " a "),
        (str | None, "null", "null"),
        (str | None, "", ""),
        (str | int, "5", "5"),
        (int | str, "5", "5"),
        (date, "2026-01-02", "2026-01-02"),
        (int, "90210", 90210),
        (int, "007", 7),
        (int, "-3", -3),
        (int, "1e5", 100000),
        (int, "5.0", 5),
        (int, " 5 ", 5),
        (int, "123456789012345678901234567890", 123456789012345678901234567890),
        (int | None, "null", None),
        (int | None, "", None),
        (int | None, "4", 4),
        (float, "6.5", 6.5),
        (float, "1e5", 1e5),
        (float, "6", 6),
        (float, ".5", 0.5),
        (float, "NaN", "NaN"),
        (float, "-inf", "-Infinity"),
        (bool, "true", True),
        (bool, "False", False),
        (bool, "on", True),
        (bool, "0", False),
        (bool | int, "1", 1),
        (bool | None, "null", None),
        (Colour, "red", "red"),
        (Colour, "null", "null"),
        (Colour | None, "null", "null"),
        (Literal["a"] | None, "null", None),
        (Level, "2", 2),
        (Literal["auto"] | int, "5", 5),
        (Literal["auto"] | int, "auto", "auto"),
        (Literal["7"], "7", "7"),
        (Literal[7], "7", 7),
        (Literal["red"], "blue", "blue"),
        (list[str], "1", ["1"]),
        (list[str], "a,b", ["a,b"]),
        (list[str], '["1", "2"]', ["1", "2"]),
        (list[str], "[draft", ["[draft"]),
        (list[str] | str, "a", "a"),
        (int | bool, "true", True),
        (list[int], "1", [1]),
        (list[int], "[1, 2]", [1, 2]),
        (list[int], "[]", []),
        (list[int] | None, "", None),
        (list[list[float]], "[[1, 2.5]]", [[1, 2.5]]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (House, '{"rm": 6.5}', {"rm": 6.5}),
        (House | None, "null", None),
        (Point, '{"x": 1, "y": 2}', {"x": 1, "y": 2}),
        (Annotated[Cat | Dog, Field(discriminator="kind")], '{"kind": "dog"}', {"kind": "dog"}),
        (Any, "6.5", "6.5"),
        (Any, "007", "007"),
        (Any, "null", "null"),
        (Any, "Vilnius", "Vilnius"),
        (Any, "NaN", "NaN"),
        (Any, "1e999", "1e999"),
        (bytes, "AAEC", "AAEC"),
        (bytes, "12345678", "12345678"),
        (bytes, FILE_ID, {"file": FILE_ID}),
        (bytes, json.dumps({"file": FILE_ID}), {"file": FILE_ID}),
        (File | None, FILE_ID, {"file": FILE_ID}),
        (str, FILE_ID, FILE_ID),
    ],
)
def test_one_text_is_what_the_schema_says(hint: Any, text: str, value: Any) -> None:
    found = from_text(schema_of(hint), [text])
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("hint", "texts", "value"),
    [
        (list[str], ["1", "2"], ["1", "2"]),
        (list[int], ["1", "2"], [1, 2]),
        (set[float], ["1", "2.5"], [1, 2.5]),
        (list[list[int]], ["[1]", "[2, 3]"], [[1], [2, 3]]),
        (list[int | None], ["1", "null"], [1, None]),
        (list[Level], ["1", "2"], [1, 2]),
        (list[House], ['{"rm": 1}', '{"rm": 2}'], [{"rm": 1}, {"rm": 2}]),
        (tuple[int, str], ["1", "2"], [1, "2"]),
        (list[int] | None, ["1", "2"], [1, 2]),
        (str | list[int], ["1", "2"], [1, 2]),
        (list[bytes], ["AAEC", FILE_ID], ["AAEC", {"file": FILE_ID}]),
        (Any, ["1", "a"], ["1", "a"]),
        (list[str], [], []),
    ],
)
def test_several_texts_of_a_name_are_an_array(hint: Any, texts: list[str], value: Any) -> None:
    assert from_text(schema_of(hint), texts) == value


@pytest.mark.parametrize(
    ("hint", "texts", "message"),
    [
        (int, ["abc"], "needs a whole number, not 'abc'"),
        (int, ["1.5"], "needs a whole number, not '1.5'"),
        (int, [""], "needs a whole number, not ''"),
        (int, ["1_000"], "needs a whole number"),
        (int, ["\u0661"], "needs a whole number"),
        (int, ["9" * 5000], "needs a whole number, not '9{40}'…"),
        (int, ["1e999"], "needs a whole number"),
        (int, ["NaN"], "needs a whole number"),
        (float, ["1,5"], "needs a number, not '1,5'"),
        (float, ["1e999"], "needs a number"),
        (bool, ["maybe"], "needs true or false, not 'maybe'"),
        (int | None, ["none"], "needs a whole number or null, not 'none'"),
        (Level, ["3"], "needs 1 or 2, not '3'"),
        (list[int], ["[1,"], r"needs a JSON array, not '\[1,'"),
        (list[int], ["a"], "needs a whole number, not 'a' .or a JSON array."),
        (list[int], ["1", "b"], "value 2: needs a whole number, not 'b'"),
        (dict[str, int], ["a=1"], "needs a JSON object, not 'a=1'"),
        (House, ["[1]"], "needs a JSON object"),
        (House, ["[" * 100_000], "it is nested too deep"),
        (list[str], ["[" * 100_000], "it is nested too deep"),
        (House, ['{"rm": NaN}'], "needs a JSON object"),
        (str, ["a", "b"], "it is given more than once, and is no list"),
        (House, ["{}", "{}"], "it is given more than once, and is no list"),
        (int, [], "needs a value"),
        (bytes, ["{1}"], "needs base64 or a JSON object"),
    ],
)
def test_a_text_that_cannot_be_is_refused_with_what_is_needed(
    hint: Any, texts: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        from_text(schema_of(hint), texts)


@pytest.mark.parametrize(
    ("hint", "name", "text", "value"),
    [
        (House, "zip", "90210", "90210"),
        (House, "rm", "6", 6),
        (House, "next", '{"rm": 1}', {"rm": 1}),
        (House, "none", "5", "5"),
        (Annotated[Cat | Dog, Field(discriminator="kind")], "lives", "3", 3),
        (Annotated[Cat | Dog, Field(discriminator="kind")], "name", "3", "3"),
        (dict[str, str], "any", "5", "5"),
        (list[int], "any", "5", "5"),
        (dict[str, int], "any", "5", 5),
    ],
)
def test_a_member_is_found_through_references(hint: Any, name: str, text: str, value: Any) -> None:
    assert from_text(member_schema(schema_of(hint), name), [text]) == value


def test_a_schema_that_refers_to_itself_or_to_nothing_says_nothing() -> None:
    circle = {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}}
    with pytest.raises(ValueError, match="needs another value"):
        from_text(circle, ["5"])
    assert from_text({"$ref": "#/$defs/Gone"}, ["5"]) == "5"
    assert from_text({"type": ["integer", "null"]}, ["5"]) == 5
    assert from_text({"type": "array", "items": True}, ["5", "a"]) == ["5", "a"]
    assert from_text({"allOf": [{"type": "string"}]}, ["5"]) == "5"


def test_the_members_of_a_union_are_those_of_all_its_objects() -> None:
    schema = schema_of(Annotated[Cat | Dog, Field(discriminator="kind")])
    assert [*properties(schema)] == ["kind", "lives", "name"]
    assert from_text(properties(schema)["kind"], ["dog"], schema) == "dog"
    assert properties(schema_of(list[int])) == {}
    assert properties({"$ref": "#/$defs/Gone"}) == {}


def test_what_takes_lists_and_what_takes_anything_is_told() -> None:
    schema = schema_of(House)
    assert is_list(properties(schema)["beds"], schema)
    assert is_list(schema_of(list[int] | None), {})
    assert not is_list(properties(schema)["rm"], schema)
    assert is_free({})
    assert is_free(member_schema(schema, "none"))
    assert not is_free(member_schema(schema, "rm"))


@given(st.text(max_size=30))
def test_whatever_a_text_is_the_answer_is_json_or_a_value_error(text: str) -> None:
    for hint in (int, float, bool, list[int], House, Any, bytes, str | None):
        try:
            value = from_text(schema_of(hint), [text])
        except ValueError:
            continue
        assert json.loads(json.dumps(value, allow_nan=False)) == value


@given(st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none())
def test_plain_json_is_read_as_itself(value: Any) -> None:
    hint = int | float | bool | None
    text = TypeAdapter(Any).dump_json(value).decode()
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return
    assert from_text(schema_of(hint), [text]) == value


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float


class Square(BaseModel):
    kind: Literal["square"]
    side: int
    radius: str = ""


class Loop(BaseModel):
    next: Loop | None = None


@pytest.mark.parametrize(
    ("hint", "names"),
    [
        (Circle, ["kind", "radius"]),
        (Circle | None, ["kind", "radius"]),
        (Annotated[Circle | Square, Field(discriminator="kind")], ["kind", "radius", "side"]),
        (Circle | Square, ["kind", "radius", "side"]),
        (Loop, ["next"]),
        (int, []),
        (list[Circle], []),
    ],
)
def test_an_object_has_the_members_of_all_its_alternatives(hint: Any, names: list[str]) -> None:
    assert sorted(properties(schema_of(hint))) == names


def test_what_refers_to_itself_has_its_members_once() -> None:
    schema = {
        "$ref": "#/$defs/A",
        "$defs": {
            "A": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]},
            "B": {"properties": {"x": {}}, "anyOf": [{"$ref": "#/$defs/A"}]},
        },
    }
    assert properties(schema) == {"x": {}}
