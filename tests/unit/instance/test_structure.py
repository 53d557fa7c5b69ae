"""What a model is made of comes back as it was: containers, records and plain values."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from skipper.errors import FormatError
from skipper.instance import classes, structure
from skipper.instance.structure import NotPlainError, StructureReader, StructureWriter


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(NamedTuple):
    width: int
    height: int = 1


@dataclasses.dataclass(frozen=True)
class Kit:
    net: Any
    labels: list[str]
    cut: float = 0.5


@dataclasses.dataclass(slots=True)
class Counted:
    steps: int
    seen: list[int] = dataclasses.field(default_factory=list)
    total: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.total = self.steps * 2


class Plan(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str = Field(alias="Name")
    net: Any = None
    sizes: tuple[int, ...] = ()


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    a: int


class Part:
    """What no structure is made of."""


def through(value: Any) -> Any:
    """Written, sent through JSON and read; parts come back as they were."""
    parts: list[Any] = []

    def write_part(part: Any, place: str) -> Any:
        if isinstance(part, Part):
            parts.append(part)
            return {"part": len(parts) - 1}
        return writer.record(part, place)

    writer = StructureWriter(write_part)
    text = json.dumps(writer.write(value), allow_nan=False)
    return StructureReader(lambda number: parts[number]).read(json.loads(text))


keys = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
scalars = (
    keys
    | st.binary()
    | st.datetimes(timezones=st.just(dt.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.sampled_from(Colour)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.frozensets(scalars, max_size=4)
        | st.dictionaries(keys | st.tuples(keys, keys), inner, max_size=4)
        | st.builds(Kit, inner, st.lists(st.text(), max_size=2))
        | st.builds(Size, st.integers(), st.integers())
    ),
    max_leaves=12,
)


@given(values)
def test_a_structure_comes_back_as_it_was(value: Any) -> None:
    found = through(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        {"a": (1, [2.0, None]), 3: {"4"}},
        [True, 1, 1.0, "1", b"1"],
        {"part": 0, "dict": 1, "lost": {"tuple": []}},
        -(2**70),
        "\ud800 alone",
        decimal.Decimal("1.10"),
        uuid.UUID(int=5),
        Counted(4, [1]),
        Plan(Name="n", sizes=(1, 2)),
        Open(a=1, b=[2]),  # type: ignore[call-arg] # what is allowed beside the fields
        np.float32(0.1),
        np.int64(-3),
        np.str_("ab"),
        np.datetime64("2026-01-02T03:04", "m"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_comes_back_of_its_class(value: Any) -> None:
    found = through(value)
    assert found == value
    assert repr(found) == repr(value)
    assert type(found) is type(value)


def test_a_number_of_more_digits_than_python_prints_comes_back() -> None:
    assert through(10**5000) == 10**5000


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324])
def test_a_float_comes_back_to_the_bit(value: float) -> None:
    assert np.float64(through([value])[0]).tobytes() == np.float64(value).tobytes()


def test_a_part_that_stands_twice_is_one_object_afterwards() -> None:
    part = Part()
    found = through({"a": part, "b": [part, Kit(part, [])]})
    assert found["a"] is found["b"][0] is found["b"][1].net is part


def test_what_was_changed_after_it_was_made_comes_back_changed() -> None:
    counted = Counted(1)
    counted.total = 99
    assert through(counted).total == 99


def test_a_field_that_was_never_set_stays_so() -> None:
    counted: Counted = object.__new__(Counted)
    counted.steps, counted.seen = 1, []
    found = through(counted)
    assert found.steps == 1
    assert not hasattr(found, "total")


def test_fields_that_came_later_have_their_defaults() -> None:
    name = classes.name_of(Kit)
    node = {"record": [name, [["net", 1], ["labels", []]]]}
    assert StructureReader(lambda _: None).read(node) == Kit(1, [])


# --- what is refused -------------------------------------------------------------------------


def refused(value: Any) -> str:
    with pytest.raises(FormatError) as caught:
        through(value)
    return str(caught.value)


def test_what_holds_itself_is_refused_and_not_followed_for_ever() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    assert "holds itself" in refused(value)
    kit = Kit(None, [])
    object.__setattr__(kit, "net", [kit])
    assert "holds itself" in refused(kit)


def test_a_hundred_levels_are_no_more_than_can_be_read() -> None:
    value: Any = 1
    for _ in range(structure.DEPTH):
        value = [value]
    assert through(value) == value


def test_more_values_than_a_manifest_is_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "NODES", 10)
    assert "array" in refused(list(range(11)))


@pytest.mark.parametrize("value", [OrderedDict(a=1), range(3), object, len], ids=repr)
def test_what_is_no_container_or_record_is_told_with_its_place(value: Any) -> None:
    with pytest.raises(NotPlainError, match=r"value\['deep'\]\[0\] is a "):
        through({"deep": [value]})


def test_a_class_within_a_function_is_refused_with_what_to_do() -> None:
    @dataclasses.dataclass
    class Local:
        a: int = 1

    assert "top level" in refused([Local()])


def test_a_class_whose_name_leads_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.Kit", Size)
    assert "would not find it" in refused(KIT)


KIT = Kit(1, ["a"])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"record": ["os:system", [["a", 1]]]}, "gone"),
        ({"record": ["nowhere.at.all:Kit", []]}, "cannot be found"),
        ({"record": [f"{__name__}:Gone", []]}, "gone"),
        ({"record": [f"{__name__}:Part", []]}, "no dataclass"),
        ({"record": [f"{__name__}:Kit", [["net", 1]]]}, "labels"),
        ({"record": [f"{__name__}:Kit", [["x", 1]]]}, "no field 'x'"),
        ({"record": [f"{__name__}:Plan", []]}, "name"),
        ({"record": ["../../x:y", []]}, "names no class"),
        ({"record": ["antigravity:Kit", []]}, "not looked for"),
        ({"record": ["celery.__main__:Kit", []]}, "not looked for"),
        ({"enum": ["this:Kit", "RED"]}, "not looked for"),
        ({"record": [f"{__name__}:Kit"]}, "damaged"),
        ({"record": [1, []]}, "damaged"),
        ({"enum": [f"{__name__}:Colour", "GREEN"]}, "no member"),
        ({"enum": [f"{__name__}:Kit", "RED"]}, "no enum"),
        ({"enum": 5}, "damaged"),
        ({"dict": [[{"dict": []}, 1]]}, "damaged"),
        ({"dict": [[1]]}, "damaged"),
        ({"dict": {}}, "cannot read"),
        ({"tuple": [], "set": []}, "damaged"),
        ({}, "damaged"),
        ({"pickle": "x"}, "cannot read"),
        ({"float": "1e5"}, "damaged"),
        ({"bytes": "*"}, "damaged"),
        ({"numpy": ["|O", ""]}, "damaged"),
        ({"numpy": ["<f8", ""]}, "damaged"),
        ({"datetime": "yesterday"}, "damaged"),
    ],
)
def test_a_damaged_document_is_told_and_makes_nothing(node: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        StructureReader(lambda number: number).read(node)


def test_a_document_that_lies_too_deep_is_refused() -> None:
    node: Any = 1
    for _ in range(5000):
        node = [node]
    with pytest.raises(FormatError, match="too deep"):
        StructureReader(lambda number: number).read(node)
