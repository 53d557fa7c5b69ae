"""A text means what the schema of its parameter takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from skipper.values import forms


class Point(BaseModel):
    x: int


@pytest.mark.parametrize(
    ("hint", "texts", "value"),
    [
        (str, ["90210"], "90210"),
        (str, ["null"], "null"),
        (str, ['{"a": 1}'], '{"a": 1}'),
        (str, [""], ""),
        (int, ["90210"], 90210),
        (int, ["1e5"], 100000.0),
        (int, ["nine"], "nine"),
        (float, ["007"], "007"),
        (float, ["-0.5"], -0.5),
        (bool, ["true"], True),
        (bool, ["yes"], "yes"),
        (int | None, ["null"], None),
        (str | None, ["null"], None),
        (str | None, ["5"], "5"),
        (int | str, ["5"], "5"),
        (int | bool, ["true"], True),
        (Any, ["5"], "5"),
        (dict[str, int], ['{"a": 1}'], {"a": 1}),
        (Point, ['{"x": 1}'], {"x": 1}),
        (Point | None, ["null"], None),
        (Literal["a", "b"], ["b"], "b"),
        (Literal[1, 2], ["2"], 2),
        (Literal[1, "x"], ["x"], "x"),
        (list[int], ["1", "2"], [1, 2]),
        (list[int], ["1"], [1]),
        (list[int], ["[1, 2]"], [1, 2]),
        (list[str], ["1", "2"], ["1", "2"]),
        (list[str], ["[draft"], ["[draft"]),
        (list[Point], ['{"x": 1}', '{"x": 2}'], [{"x": 1}, {"x": 2}]),
        (list[int] | None, ["1"], [1]),
        (list[str] | str, ["a"], "a"),
        (list[str] | str, ["a", "b"], ["a", "b"]),
        (Annotated[int, Field(ge=1)], ["3"], 3),
    ],
)
def test_a_text_is_read_as_its_parameter_is(hint: Any, texts: list[str], value: Any) -> None:
    assert forms.from_text(TypeAdapter(hint).json_schema(), texts) == value


def test_definitions_are_those_of_the_whole_schema() -> None:
    schema = {"$defs": {"N": {"type": "integer"}}, "properties": {"n": {"$ref": "#/$defs/N"}}}
    assert forms.from_text(forms.properties(schema)["n"], ["3"], schema) == 3
    looped = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert forms.from_text(looped, ["3"]) == "3"


@pytest.mark.parametrize("hint", [int, str, Point])
def test_several_texts_for_one_value_are_refused(hint: Any) -> None:
    with pytest.raises(ValueError, match="more than once"):
        forms.from_text(TypeAdapter(hint).json_schema(), ["1", "2"])


def test_a_schema_that_describes_no_object_has_no_members() -> None:
    assert forms.properties({"type": "array"}) == {}
    assert [*forms.properties(TypeAdapter(Point).json_schema())] == ["x"]


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
    schema = TypeAdapter(hint).json_schema()
    found = forms.properties(schema)
    assert sorted(found) == names
    for name in names:
        forms.from_text(found[name], ["1"], schema)


def test_what_refers_to_itself_has_its_members_once() -> None:
    schema = {
        "$ref": "#/$defs/A",
        "$defs": {
            "A": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]},
            "B": {"properties": {"x": {}}, "anyOf": [{"$ref": "#/$defs/A"}]},
        },
    }
    assert forms.properties(schema) == {"x": {}}
