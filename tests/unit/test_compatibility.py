"""What callers meet when a function changes, told by the schemas that pydantic makes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from skipper.compatibility import Interface, changes, input_changes

Closed = ConfigDict(extra="forbid")


def body(**members: Any) -> dict[str, Any]:
    """The schema of a body of parameters, as a function with these has it."""
    return _made("body", Closed, members)


def model(**members: Any) -> dict[str, Any]:
    """The schema of a model that lets further members pass, as models do by default."""
    return _made("House", ConfigDict(), members)


def _made(name: str, config: ConfigDict, members: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: m if isinstance(m, tuple) else (m, ...) for name, m in members.items()
    }
    made: type[BaseModel] = create_model(name, __config__=config, **fields)
    return made.model_json_schema()


def aliased(alias: str) -> dict[str, Any]:
    return body(price=Annotated[float, Field(alias=alias)])


def schema(hint: Any) -> dict[str, Any]:
    return TypeAdapter(hint).json_schema()


class House(BaseModel):
    rooms: float
    area: float = 1.0


class WholeHouse(BaseModel):
    rooms: float
    area: int = 1


class Tree(BaseModel):
    size: int
    parts: list[Tree] = []


class SmallTree(BaseModel):
    size: Annotated[int, Field(le=9)]
    parts: list[SmallTree] = []


class Oak(BaseModel):
    kind: Literal["oak"]
    age: int


class Elm(BaseModel):
    kind: Literal["elm"]
    age: int


Either = Annotated[Oak | Elm, Field(discriminator="kind")]

NARROWED: list[tuple[str, dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    (
        "a required member is new",
        body(x=int),
        body(x=int, rooms=float),
        [("/rooms", "asks for `rooms`, which callers have not sent so far")],
    ),
    (
        "a member has lost its default",
        body(x=(int, 1)),
        body(x=int),
        [("/x", "asks for `x`, which callers could leave out")],
    ),
    (
        "a member is gone where no other is taken",
        body(x=int, y=(int, 1)),
        body(x=int),
        [("/y", "takes no `y` any more")],
    ),
    (
        "an alias is another",
        aliased("housePrice"),
        aliased("house_price"),
        [
            ("/house_price", "asks for `house_price`, which callers have not sent so far"),
            ("/housePrice", "takes no `housePrice` any more"),
        ],
    ),
    ("another type", body(x=str), body(x=int), [("/x", "takes integer, where string was right")]),
    ("only whole", body(x=float), body(x=int), [("/x", "takes integer, where number was right")]),
    ("typed", body(x=Any), body(x=int), [("/x", "takes integer, where anything was right")]),
    (
        "null is no more",
        body(x=int | None),
        body(x=int),
        [("/x", "takes integer, where null was right")],
    ),
    (
        "an alternative is gone",
        body(x=int | str | bool),
        body(x=int | bool),
        [("/x", "takes integer or boolean, where string was right")],
    ),
    (
        "a word is gone",
        body(x=Literal["a", "b", "c"]),
        body(x=Literal["b"]),
        [("/x", 'takes "a", "c" no more')],
    ),
    (
        "words only",
        body(x=str | None),
        body(x=Literal["a", "b"] | None),
        [("/x", 'takes only "a", "b"')],
    ),
    (
        "true is not the number 1",
        body(x=Literal[1, True]),
        body(x=Literal[1]),
        [("/x", "takes true no more")],
    ),
    (
        "a bound is new",
        body(x=float),
        body(x=Annotated[float, Field(ge=2)]),
        [("/x", "has minimum 2, where it was none")],
    ),
    (
        "a bound is not reached any more",
        body(x=Annotated[float, Field(ge=0)]),
        body(x=Annotated[float, Field(gt=0)]),
        [("/x", "has minimum 0 exclusive, where it was 0")],
    ),
    (
        "a bound of length is narrower",
        body(x=Annotated[list[int], Field(max_length=9)]),
        body(x=Annotated[list[int], Field(max_length=3)]),
        [("/x", "has maxItems 3, where it was 9")],
    ),
    (
        "a keyword that is not judged is another",
        body(x=Annotated[str, Field(pattern="a+")]),
        body(x=Annotated[str, Field(pattern="b+")]),
        [("/x", "has pattern b+, where it was a+")],
    ),
    (
        "items",
        body(x=list[float]),
        body(x=list[int]),
        [("/x/*", "takes integer, where number was right")],
    ),
    (
        "a place of a tuple",
        body(x=tuple[int, float]),
        body(x=tuple[int, str]),
        [("/x/1", "takes string, where number was right")],
    ),
    (
        "values of a dict",
        body(x=dict[str, float]),
        body(x=dict[str, int]),
        [("/x/*", "takes integer, where number was right")],
    ),
    (
        "members without a name",
        model(x=int),
        body(x=int),
        [("", "takes no members any more that it does not name")],
    ),
    (
        "deep in a model",
        body(houses=list[House]),
        body(houses=list[WholeHouse]),
        [("/houses/*/area", "takes integer, where number was right")],
    ),
    (
        "a type that holds itself",
        body(tree=Tree),
        body(tree=SmallTree),
        [("/tree/size", "has maximum 9, where it was none")],
    ),
    (
        "a name that a pointer escapes",
        body(x=int),
        body(x=int, y=Annotated[int, Field(alias="a/b~c")]),
        [("/a~1b~0c", "asks for `a/b~c`, which callers have not sent so far")],
    ),
    (
        "an alternative model is gone",
        body(tree=Either),
        body(tree=Oak),
        [("/tree/kind", 'takes "elm" no more')],
    ),
    (
        "the model has become one of two parameters (fastapi/fastapi#896)",
        schema(House),
        body(house=House, premium=bool),
        [("", "asks for an object of parameters: what was the body is its member `house`")],
    ),
    (
        "the second parameter is gone again",
        body(house=House, premium=bool),
        schema(House),
        [("", "asks for what was its member `house` as the body")],
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "told"), [row[1:] for row in NARROWED], ids=[row[0] for row in NARROWED]
)
def test_what_was_right_and_is_refused_is_told_with_its_place(
    old: dict[str, Any], new: dict[str, Any], told: list[tuple[str, str]]
) -> None:
    found = [each for each in input_changes("f.f", old, new) if each.breaks]
    assert sorted((each.pointer, each.text) for each in found) == sorted(told)


WIDENED: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    (body(x=int), body(x=(int, 1)), ["can do without `x`"]),
    (body(x=int), body(x=float), ["takes number, where it took integer"]),
    (body(x=int), body(x=int, y=(int, 1)), ["takes `y`, too"]),
    (body(x=Literal["a"]), body(x=Literal["a", "b"]), ['takes "b", too']),
    (body(x=Literal["a"]), body(x=str), ['takes more than "a"']),
    (body(x=int), body(x=int | None), ["takes null, where it took integer"]),
    (
        body(x=Annotated[int, Field(lt=5)]),
        body(x=Annotated[int, Field(le=5)]),
        ["has maximum 5, where it was 5 exclusive"],
    ),
    (model(x=int, y=(int, 1)), model(x=int), ["reads no `y` any more, and lets it pass"]),
    (model(x=int), model(x=int, y=(int, 1)), []),
    (body(tree=Oak), body(tree=Either), ['takes "elm", too']),
]


@pytest.mark.parametrize(("old", "new", "told"), WIDENED)
def test_what_only_widens_breaks_nobody(
    old: dict[str, Any], new: dict[str, Any], told: list[str]
) -> None:
    found = input_changes("f.f", old, new)
    assert [each.text for each in found] == told
    assert not any(each.breaks for each in found)


@pytest.mark.parametrize(
    "hint", [House, Tree, Either, dict[str, Tree], tuple[int, ...], Literal["a", 1], Any, None]
)
def test_what_stays_as_it_is_tells_nothing(hint: Any) -> None:
    same = Interface(schema(hint), schema(hint))
    assert changes("f.f", same, same) == []


def test_other_words_about_it_change_nothing() -> None:
    old = body(x=Annotated[int, Field(title="A", description="a", examples=[1])])
    assert input_changes("f.f", old, body(x=int)) == []


GIVEN: list[tuple[Any, Any, list[str], list[str]]] = [
    (float, float | None, ["gives null, where it was number"], []),
    (float | None, float, [], ["gives number, where it was null"]),
    (Literal["a"], Literal["a", "b"], ['may give "b"'], []),
    (Literal["a", "b"], Literal["a"], [], ['gives "b" no more']),
    (House, Tree, ["gives no `area` any more", "gives no `rooms` any more"], ["gives `size`, too"]),
    (float, int, [], ["gives integer, where it was number"]),
]


@pytest.mark.parametrize(("old", "new", "broken", "harmless"), GIVEN)
def test_what_a_function_gives_must_be_what_callers_know(
    old: Any, new: Any, broken: list[str], harmless: list[str]
) -> None:
    found = changes("f.f", Interface({}, schema(old)), Interface({}, schema(new)))
    assert {each.where for each in found} == {"output"}
    assert sorted(each.text for each in found if each.breaks) == broken
    assert sorted(each.text for each in found if not each.breaks) == harmless


def test_another_way_of_answering_breaks_callers() -> None:
    old, new = Interface({}, {}), Interface({}, {}, mode="task", streams=True)
    assert [str(each) for each in changes("f.f", old, new) if each.breaks] == [
        "f.f now answers with a task",
        "f.f now gives a stream of items",
    ]
    assert len(changes("f.f", new, old)) == 2


@pytest.mark.parametrize(
    "rubbish",
    [
        {"properties": [1], "required": "x", "type": "object"},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}},
        {"$ref": 7, "anyOf": {}, "enum": "x", "minimum": "low"},
        {"type": ["integer", "null"], "items": False},
    ],
)
def test_rubbish_from_a_server_is_compared_as_far_as_it_goes(rubbish: dict[str, Any]) -> None:
    good = body(x=int)
    for old, new in ((rubbish, good), (good, rubbish), (rubbish, rubbish)):
        changes("f.f", Interface(old, old), Interface(new, new))
