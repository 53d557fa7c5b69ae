import json
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import NoneType
from typing import Annotated, Any, Optional, Union

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

import skipper
from skipper.errors import DefinitionError
from skipper.function.model import Model
from skipper.function.signature import signature_of
from skipper.values.opening import NO_PLACES

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


class House(BaseModel):
    rooms: int
    crim: float = 0.5


@dataclass
class Point:
    x: float
    y: float


def plain(a: int, b: str = "x", c: list[float] | None = None) -> dict[str, Any]:
    return {"a": a, "b": b, "c": c}


# --- input ---------------------------------------------------------------------------------


def of_a_model(house: House) -> float: ...  # type: ignore[empty-body] # only the signature counts
def of_a_described_model(house: Annotated[House, Field(description="d")]) -> float: ...  # type: ignore[empty-body] # as above
def of_two(house: House, scale: float = 1.0) -> float: ...  # type: ignore[empty-body] # as above
def of_a_list(values: list[float]) -> float: ...  # type: ignore[empty-body] # as above
def of_anything(value) -> Any: ...  # type: ignore[no-untyped-def] # on purpose
def of_nothing() -> None: ...


def injected(
    n: int,
    *,
    run: skipper.Run,
    net: Annotated[object, skipper.Loaded("boston")],
    scale: float = 1.0,
) -> None: ...


PLAIN, ANYTHING = signature_of(plain), signature_of(of_anything)


class Counter:
    def __init__(self) -> None: ...

    def __call__(self, by: int = 1) -> int:
        return by


@pytest.mark.parametrize(
    ("function", "body", "kwargs"),
    [
        (plain, b'{"a": 1}', {"a": 1}),
        (plain, b'{"a": "1", "b": "y", "c": [1]}', {"a": 1, "b": "y", "c": [1.0]}),
        (of_a_model, b'{"rooms": 6}', {"house": House(rooms=6)}),
        (of_a_described_model, b'{"rooms": 6}', {"house": House(rooms=6)}),
        (of_two, b'{"house": {"rooms": 6}}', {"house": House(rooms=6)}),
        (of_a_list, b'{"values": [1, 2]}', {"values": [1.0, 2.0]}),
        (of_anything, b'{"value": {"deep": [null]}}', {"value": {"deep": [None]}}),
        (of_nothing, b"{}", {}),
        (of_nothing, b"", {}),
        (injected, b'{"n": 3}', {"n": 3}),
        (Counter, b'{"by": 2}', {"by": 2}),
        (Counter, b"", {}),
    ],
)
def test_a_body_becomes_the_arguments(
    function: Callable[..., Any], body: bytes, kwargs: dict[str, Any]
) -> None:
    assert signature_of(function).parse(body) == kwargs


@pytest.mark.parametrize(
    ("function", "body", "where"),
    [
        (plain, b"{}", ("a",)),
        (plain, b'{"a": "one"}', ("a",)),
        (plain, b'{"a": 1, "c": [1, "x"]}', ("c", 1)),
        (plain, b'{"a": 1, "d": 2}', ("d",)),
        (plain, b"[1]", ()),
        (of_a_model, b'{"rooms": null}', ("rooms",)),
        (of_two, b'{"house": {}}', ("house", "rooms")),
        (of_nothing, b'{"run": 1}', ("run",)),
        (injected, b'{"n": 1, "run": {}}', ("run",)),
        (injected, b'{"n": 1, "net": {}}', ("net",)),
    ],
)
def test_a_body_that_does_not_match_is_refused_with_the_place(
    function: Callable[..., Any], body: bytes, where: tuple[Any, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        signature_of(function).parse(body)
    assert where in [error["loc"] for error in caught.value.errors() if not error["loc"][2:]]


@pytest.mark.parametrize("body", [b"{", b"nonsense", b"\xff", b'{"a": 1} extra', b'{"a": 1'])
def test_what_is_not_json_is_not_taken_for_what_does_not_match(body: bytes) -> None:
    with pytest.raises(ValidationError) as caught:
        signature_of(plain).parse(body)
    assert caught.value.errors()[0]["type"] == "json_invalid"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_has_not_are_no_json(number: str) -> None:
    def take(x: Any, note: str = "") -> None: ...

    for body in (f'{{"x": {number}}}', f'{{"x": {{"deep": [1, {number}]}}, "note": "NaN"}}'):
        with pytest.raises(ValidationError) as caught:
            signature_of(take).parse(body.encode())
        assert caught.value.errors()[0]["type"] == "json_invalid"
    with pytest.raises(ValidationError):
        signature_of(take).parse_items(f'{{"items": [{{"x": {number}}}]}}'.encode())


def test_their_names_in_a_text_are_a_text() -> None:
    def take(x: str) -> None: ...

    assert signature_of(take).parse(b'{"x": "NaN or Infinity"}') == {"x": "NaN or Infinity"}


@given(
    st.integers(-(2**53), 2**53),
    st.text(max_size=9),
    st.lists(st.floats(allow_nan=False)),
)
def test_what_a_caller_writes_is_what_the_function_gets(a: int, b: str, c: list[float]) -> None:
    signature = PLAIN
    want = {"a": a, "b": b, "c": c}
    assert signature.parse(signature.body((a, b, c), {})) == want
    assert signature.parse(signature.body((a,), {"c": c, "b": b})) == want
    assert signature.parse(signature.body((), want)) == want
    assert signature.parse(signature.body((a,), {})) == {"a": a}


def test_what_is_no_number_arrives_as_it_was_sent() -> None:
    body = PLAIN.body((1, "b", [math.nan, -math.inf]), {})
    assert b'["NaN","-Infinity"]' in body
    assert str(PLAIN.parse(body)["c"]) == "[nan, -inf]"


@pytest.mark.parametrize(
    ("args", "kwargs"), [((House(rooms=3),), {}), ((), {"house": {"rooms": 3}})]
)
def test_a_model_that_is_the_body_is_sent_bare(args: Any, kwargs: Any) -> None:
    signature = signature_of(of_a_model)
    body = signature.body(args, kwargs)
    assert json.loads(body)["rooms"] == 3
    assert signature.parse(body) == {"house": House(rooms=3)}


def of_a_model_with_a_default(house: House = House(rooms=1)) -> int:  # noqa: B008 - what is tested
    return house.rooms


def test_a_body_with_a_default_may_be_left_out() -> None:
    signature = signature_of(of_a_model_with_a_default)
    assert signature.parse(signature.body((), {})) == {}
    assert signature.parse(b"") == {}
    assert signature.parse(b'{"rooms": 2}') == {"house": House(rooms=2)}


def test_arrays_may_be_sent_as_they_are() -> None:
    signature = signature_of(of_a_list)
    assert signature.parse(signature.body((np.array([1.5, 2.5]),), {})) == {"values": [1.5, 2.5]}


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((1, "b", [], 4), {}, "at most 3 arguments (a, b, c), not 4"),
        ((1,), {"a": 2}, "given twice"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused_before_they_are_sent(
    args: Any, kwargs: Any, message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        signature_of(plain).body(args, kwargs)
    assert message in str(caught.value)


def test_the_schema_of_a_body_has_names_types_and_defaults() -> None:
    schema = signature_of(plain).input_schema()
    assert schema["required"] == ["a"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["a"]["type"] == "integer"
    assert schema["properties"]["b"]["default"] == "x"
    assert signature_of(of_a_model).input_schema()["title"] == "House"


def test_parameters_that_are_injected_are_no_part_of_the_body() -> None:
    signature = signature_of(injected)
    assert set(signature.input_schema()["properties"]) == {"n", "scale"}
    assert signature.run_parameters == ("run",)
    assert signature.loaded_parameters == {"net": "boston"}


class Uncallable: ...


def test_a_class_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(DefinitionError, match="class Uncallable needs a __call__ method"):
        signature_of(Uncallable)


# --- output --------------------------------------------------------------------------------


@given(json_values)
def test_json_comes_out_as_the_same_json(value: Any) -> None:
    assert json.loads(ANYTHING.dump(value)) == value


def gives_a_model() -> House: ...  # type: ignore[empty-body] # only the signature counts
def gives_points() -> list[Point]: ...  # type: ignore[empty-body] # as above
def gives_what_pydantic_does_not_know() -> ExitStack: ...  # type: ignore[empty-body] # as above


@pytest.mark.parametrize(
    ("function", "value", "plain_data"),
    [
        (of_anything, np.arange(3), [0, 1, 2]),
        (of_anything, {"a": np.float32(1.5), "b": [np.int64(7)]}, {"a": 1.5, "b": [7]}),
        (of_anything, np.array([[True]]), [[True]]),
        (of_anything, [math.nan, math.inf], [None, None]),
        (of_anything, House(rooms=2), {"rooms": 2, "crim": 0.5}),
        (of_anything, Point(1, 2), {"x": 1.0, "y": 2.0}),
        (of_anything, datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (of_anything, {1: "a"}, {"1": "a"}),
        (of_anything, (1, 2), [1, 2]),
        (gives_a_model, House(rooms=2), {"rooms": 2, "crim": 0.5}),
        (gives_a_model, {"rooms": 2}, {"rooms": 2}),
        (gives_points, [Point(1, 2)], [{"x": 1.0, "y": 2.0}]),
        (gives_what_pydantic_does_not_know, np.array([1]), [1]),
    ],
)
def test_what_functions_return_becomes_plain_json(
    function: Callable[..., Any], value: Any, plain_data: Any
) -> None:
    assert json.loads(signature_of(function).dump(value)) == plain_data


class Endless:
    def tolist(self) -> "Endless":
        return Endless()


@pytest.mark.parametrize("value", [object(), Endless(), lambda: 1, [object()], "\ud800"])
def test_what_json_cannot_hold_is_an_error_in_words(value: Any) -> None:
    with pytest.raises(TypeError, match="the returned value is not JSON"):
        signature_of(of_anything).dump(value)


def counts() -> Iterator[int]:
    yield 1


async def counts_slowly() -> AsyncIterator[House]:
    yield House(rooms=1)


async def waits() -> int:
    return 1


def trains() -> skipper.Model: ...  # type: ignore[empty-body] # only the signature counts


def test_a_generator_streams_items_of_its_type() -> None:
    assert signature_of(counts).streams
    assert signature_of(counts).output_schema() == {"type": "integer"}
    assert signature_of(counts_slowly).output_schema()["title"] == "House"
    assert not signature_of(waits).streams


@pytest.mark.parametrize(
    ("function", "is_async"), [(counts, False), (counts_slowly, True), (waits, True)]
)
def test_async_and_plain_functions_are_distinguished(
    function: Callable[..., Any], is_async: bool
) -> None:
    assert signature_of(function).is_async is is_async


def test_a_returned_model_has_the_schema_of_name_version_and_metrics() -> None:
    signature = signature_of(trains)
    assert signature.returns_model
    assert signature.output_schema()["required"] == ["name", "version", "metrics", "promoted"]


def test_a_type_without_a_schema_has_that_of_anything() -> None:
    assert signature_of(gives_what_pydantic_does_not_know).output_schema() == {}


# --- batches -------------------------------------------------------------------------------


def batch_of_models(houses: list[House]) -> list[float]: ...  # type: ignore[empty-body] # as above
def batch_of_pairs(a: list[int], b: list[str]) -> list[dict[str, int]]: ...  # type: ignore[empty-body] # as above
def batch_of_lists(rows: list[list[float]]) -> list[float]: ...  # type: ignore[empty-body] # as above


@pytest.mark.parametrize(
    ("function", "body", "kwargs"),
    [
        (batch_of_models, b'{"rooms": 6}', {"houses": House(rooms=6)}),
        (batch_of_pairs, b'{"a": 1, "b": "x"}', {"a": 1, "b": "x"}),
        (batch_of_lists, b'{"rows": [1, 2]}', {"rows": [1.0, 2.0]}),
    ],
)
def test_in_a_batch_each_caller_sends_one_item(
    function: Callable[..., Any], body: bytes, kwargs: dict[str, Any]
) -> None:
    signature = signature_of(function, batched=True)
    assert signature.parse(body) == kwargs
    assert signature.parse_items(b'{"items": [' + body + b"," + body + b"]}") == [kwargs, kwargs]
    assert signature.parse_items(b'{"items": []}') == []


def test_in_a_batch_each_caller_gets_one_item() -> None:
    assert signature_of(batch_of_models, batched=True).output_schema() == {"type": "number"}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"rooms": 6}', b'{"items": 3}', b'{"items": []', b'{"items": [], "x": 1}'],
)
def test_only_an_object_of_items_is_many_calls_in_one(body: bytes) -> None:
    assert signature_of(batch_of_models, batched=True).parse_items(body) is None


def test_an_item_that_does_not_match_is_an_error_in_its_place() -> None:
    signature = signature_of(batch_of_models, batched=True)
    good, bad, last = signature.parse_items(b'{"items": [{"rooms": 1}, {}, {"rooms": 3}]}') or []
    assert (good, last) == ({"houses": House(rooms=1)}, {"houses": House(rooms=3)})
    assert isinstance(bad, ValidationError)
    assert bad.errors()[0]["loc"] == ("rooms",)


class Fussy(BaseModel):
    rooms: int

    @field_validator("rooms")
    @classmethod
    def breaks(cls, rooms: int) -> int:
        if rooms < 0:
            raise RuntimeError("the validator itself is broken")
        return rooms


def batch_of_fussy(houses: list[Fussy]) -> list[float]: ...  # type: ignore[empty-body] # as above


def test_a_validator_that_breaks_spoils_its_own_item_alone() -> None:
    signature = signature_of(batch_of_fussy, batched=True)
    good, bad = signature.parse_items(b'{"items": [{"rooms": 1}, {"rooms": -1}]}') or []
    assert good == {"houses": Fussy(rooms=1)}
    assert isinstance(bad, RuntimeError)


class Open(BaseModel, extra="allow"):
    name: str = ""


class Basket(BaseModel):
    items: list[int]


class Aliased(BaseModel):
    goods: list[int] = Field(  # type: ignore[pydantic-alias] # that is the point
        validation_alias=AliasChoices("goods", AliasPath("items", 0))
    )


def batch_of_open(things: list[Open]) -> list[int]: ...  # type: ignore[empty-body] # as above
def batch_of_baskets(baskets: list[Basket]) -> list[int]: ...  # type: ignore[empty-body] # as above
def batch_of_aliased(baskets: list[Aliased]) -> list[int]: ...  # type: ignore[empty-body] # as above
def batch_of_items(items: list[int]) -> list[int]: ...  # type: ignore[empty-body] # as above


def test_items_are_many_even_where_a_single_item_may_be_anything() -> None:
    signature = signature_of(batch_of_open, batched=True)
    assert signature.parse_items(b' { "items" : [{"name": "a"}, {"x": 1}]}') == [
        {"things": Open(name="a")},
        {"things": Open.model_validate({"x": 1})},
    ]
    assert signature.parse_items(b'{"items": [], "name": "b"}') is None


@pytest.mark.parametrize("function", [batch_of_baskets, batch_of_aliased, batch_of_items])
def test_items_are_a_single_items_own_where_it_has_such_a_member(
    function: Callable[..., Any],
) -> None:
    assert signature_of(function, batched=True).parse_items(b'{"items": [1]}') is None


class Estimator:
    """A model of some library's."""

    def fit(self) -> None: ...


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Estimator(), "publish a model as skipper.Model('name', value)"),
        ({"net": Estimator()}, "publish a model as skipper.Model('name', value)"),
        (object(), "return plain data, a pydantic model or a dataclass"),
    ],
)
def test_what_is_returned_and_is_no_json_is_told_with_what_would_do(
    value: object, words: str
) -> None:
    def f() -> Any: ...

    with pytest.raises(TypeError, match=re.escape(words)):
        signature_of(f).dump(value)


def maybe() -> Model | None:
    return None


def either() -> Union[Model, dict[str, int]]:  # noqa: UP007 - as older files write it
    return {}


def optional() -> Optional[Model]:  # noqa: UP045 - the same
    return None


@pytest.mark.parametrize(
    ("target", "other"),
    [
        (maybe, {"type": "null"}),
        (optional, {"type": "null"}),
        (either, {"additionalProperties": {"type": "integer"}, "type": "object"}),
    ],
)
def test_a_training_may_return_a_model_or_something_else(target: Any, other: object) -> None:
    signature = signature_of(target)
    assert signature.returns_model
    model, another = signature.output_schema()["anyOf"]
    assert (model["title"], another) == ("Model", other)
    assert signature.dump(None) == b"null"


# --- what is answered is what the schema says ----------------------------------------------------


class Inner(BaseModel):
    house_price: float = Field(0.5, serialization_alias="housePrice")


_TYPES: dict[Any, Any] = {
    int: st.integers(),
    str: st.text(),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    list[int]: st.lists(st.integers(), max_size=2),
    dict[str, str]: st.dictionaries(st.text(), st.text(), max_size=2),
    int | None: st.none() | st.integers(),
    Inner: st.builds(Inner, house_price=st.just(1.5)),
    tuple[int, str]: st.tuples(st.integers(), st.text()),
    date: st.dates(),
}


@st.composite
def models(draw: st.DrawFn) -> BaseModel:
    """A model of a class made up, with aliases of one kind or another."""
    hints = draw(st.lists(st.sampled_from([*_TYPES]), min_size=1, max_size=4))
    fields: dict[str, Any] = {}
    no_alias: dict[str, Any] = {}
    for at, hint in enumerate(hints):
        alias: dict[str, Any] = {
            draw(st.sampled_from(["alias", "serialization_alias"])): f"Field{at}"
        }
        fields[f"field_{at}"] = (hint, FieldInfo(**draw(st.sampled_from([no_alias, alias]))))
    generator = draw(st.sampled_from([None, to_camel]))
    config = ConfigDict(populate_by_name=True, alias_generator=generator)
    made = create_model("Made", __config__=config, **fields)
    return made(**{f"field_{at}": draw(_TYPES[hint]) for at, hint in enumerate(hints)})


def fits(data: Any, schema: dict[str, Any], defs: dict[str, Any]) -> bool:
    """Whether data is what a JSON schema says, as far as those of pydantic go."""
    if "$ref" in schema:
        return fits(data, defs[schema["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return any(fits(data, each, defs) for each in schema["anyOf"])
    kinds: dict[str, Any] = {
        "integer": int,
        "number": (int, float),
        "string": str,
        "boolean": bool,
        "null": NoneType,
    }
    match schema.get("type"):
        case "object":
            named, rest = schema.get("properties", {}), schema.get("additionalProperties")
            return (
                isinstance(data, dict)
                and set(schema.get("required", ())) <= set(data)
                and (rest is not None or set(data) <= set(named))
                and all(fits(each, named.get(name, rest), defs) for name, each in data.items())
            )
        case "array":
            items = schema.get("prefixItems") or [schema["items"]] * len(data)
            return len(data) == len(items) and all(
                fits(each, item, defs) for each, item in zip(data, items, strict=True)
            )
        case _:
            kind = schema["type"]
            return isinstance(data, kinds[kind]) and (kind == "boolean") is isinstance(data, bool)


_FORMS: tuple[tuple[Callable[[Any], Any], Callable[[Any], Any]], ...] = (
    (lambda kind: kind, lambda value: value),
    (list.__class_getitem__, lambda value: [value, value]),
    (lambda kind: dict.__class_getitem__((str, kind)), lambda value: {"a": value}),
    (lambda kind: kind | None, lambda value: value),
)
"""What stands around a model in a hint, and in a value."""


@settings(max_examples=60, deadline=None)
@given(models(), st.sampled_from(_FORMS))
def test_what_is_answered_fits_the_output_schema(value: BaseModel, form: Any) -> None:
    """apiflask/apiflask#707"""

    def f() -> Any: ...

    f.__annotations__["return"] = form[0](type(value))
    signature = signature_of(f)
    text, schema = signature.dump(form[1](value)), signature.output_schema()
    assert fits(json.loads(text), schema, schema.get("$defs", {}))


def test_a_model_of_aliases_comes_back_as_itself() -> None:
    class Home(BaseModel):
        house_price: float = Field(alias="housePrice")

    def f() -> Home:
        return Home(housePrice=2.5)

    signature, house = signature_of(f), f()
    assert signature.dump(house) == b'{"housePrice":2.5}'
    assert signature.load(signature.dump(house), NO_PLACES) == house


@pytest.mark.parametrize(
    "hint", [float, list[int], Inner, bytes, Annotated[int, Field(gt=3)], "int"]
)
def test_a_default_of_none_may_be_sent(hint: Any) -> None:
    def f(x: Any = None, y: int = 3) -> None: ...

    f.__annotations__["x"] = hint
    signature = signature_of(f)
    assert signature.input_schema()["properties"]["x"]["default"] is None
    assert signature.parse(b'{"x": null}') == {"x": None}
    assert signature.parse(b"{}") == {}


class _NeedsPath:
    def __init__(self, path: str, size: int = 1) -> None: ...
    def __call__(self) -> int:
        return 1


class _NeedsTwo(_NeedsPath):
    def __init__(self, *, path: str, key: str) -> None: ...


class _NeedsByNew:
    def __new__(cls, path: str) -> "_NeedsByNew":
        return super().__new__(cls)

    def __call__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("target", "asked"), [(_NeedsPath, "path"), (_NeedsTwo, "path, key"), (_NeedsByNew, "path")]
)
def test_what_nobody_gives_a_class_is_told(target: type, asked: str) -> None:
    with pytest.raises(DefinitionError, match=f"needs {asked}, which nobody gives it"):
        signature_of(target)


class _Unentered(_NeedsPath):
    def __init__(self) -> None: ...

    async def __aenter__(self) -> None: ...


def test_a_plain_class_that_only_a_loop_could_enter_is_refused() -> None:
    with pytest.raises(DefinitionError, match="write `async def __call__`"):
        signature_of(_Unentered)


class _Given(_NeedsPath):
    def __init__(self, *more: str, **rest: int) -> None: ...


class _Plain:
    def __call__(self) -> int:
        return 1


@pytest.mark.parametrize("target", [_Given, _Plain])
def test_a_class_that_needs_nothing_is_taken(target: type) -> None:
    assert signature_of(target).names == ()
