"""Bytes and files cross as JSON says, wherever in a hint they stand, and are never guessed."""

import base64
import dataclasses
import gc
import json
import weakref
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

import skipper
from skipper.values.crossing import Adapter, UnknownTypeError, value_type_of
from skipper.values.envelope import Part
from skipper.values.file import File
from skipper.values.opening import CollectedParts, OpenParts, Places
from skipper.values.spool import Spool

RAW = b"\x89\xff\x00 \xfe?>"


class Holder(BaseModel):
    content: bytes
    more: list[bytes] = []


class Text(BaseModel):
    model_config = ConfigDict(val_json_bytes="utf8")
    content: bytes


@dataclasses.dataclass
class Pair:
    left: bytes


class Table(TypedDict):
    cell: bytes


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(spool=Spool(tmp_path / "spool"))


B64 = base64.b64encode(RAW).decode()
URL = base64.urlsafe_b64encode(RAW).decode()


@pytest.mark.parametrize(
    ("hint", "template", "get"),
    [
        (bytes, "{}", lambda v: v),
        (bytes | None, "{}", lambda v: v),
        (list[bytes], "[{}]", lambda v: v[0]),
        (dict[str, bytes], '{{"k":{}}}', lambda v: v["k"]),
        (Annotated[bytes, Field(max_length=9)], "{}", lambda v: v),
        (Holder, '{{"content":"","more":[{}]}}', lambda v: v.more[0]),
        (Pair, '{{"left":{}}}', lambda v: v.left),
        (Table, '{{"cell":{}}}', lambda v: v["cell"]),
    ],
)
@pytest.mark.parametrize("text", [B64, URL, B64.rstrip("="), URL.rstrip("=")])
def test_bytes_are_base64_wherever_they_stand(
    hint: Any, template: str, get: Any, text: str
) -> None:
    adapter = Adapter(hint)
    value = adapter.validator.validate_json(template.format(f'"{text}"'))
    assert get(value) == RAW
    again = adapter.validator.validate_json(adapter.serializer.to_json(value))
    assert get(again) == RAW


@pytest.mark.parametrize(
    "text", ["héllo", "a", "ab=", "ab cd", "ab\\ncd", "====", "a-b/", "YWJj*", "YQ=a"]
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="base64"):
        Adapter(bytes).validator.validate_json(f'"{text}"')


@pytest.mark.parametrize("data", ["1", "[1]", "null", '{"a":1}', '{"file":1}', "true"])
def test_what_is_no_text_is_refused(data: str) -> None:
    with pytest.raises(ValidationError, match="base64 text or"):
        Adapter(bytes).validator.validate_json(data)


def test_a_models_own_word_about_its_bytes_counts() -> None:
    assert Adapter(Text).validator.validate_json('{"content":"plain"}').content == b"plain"


def test_constraints_are_of_the_bytes_and_not_of_the_text() -> None:
    adapter = Adapter(Annotated[bytes, Field(max_length=3)])
    assert adapter.validator.validate_json('"YWJj"') == b"abc"
    with pytest.raises(ValidationError, match="at most 3"):
        adapter.validator.validate_json('"YWJjZA=="')


def test_a_reference_is_opened(places: Places) -> None:
    part = Part(media_type="image/png", size=len(RAW), key="#0", name="a.png", data=RAW)
    parts = OpenParts([part], places)
    adapter = Adapter(dict[str, bytes | File])
    value = adapter.validator.validate_json('{"x":{"file":"#0"}}', context=parts)
    assert value["x"] == RAW
    file = Adapter(File).validator.validate_json('{"file":"#0"}', context=parts)
    assert (file.path.read_bytes(), file.name, file.media_type) == (RAW, "a.png", "image/png")
    with pytest.raises(ValidationError, match="no file '#1', or it has expired"):
        Adapter(bytes).validator.validate_json('{"file":"#1"}', context=parts)


def test_a_file_is_there_for_as_long_as_somebody_has_it(places: Places) -> None:
    parts: OpenParts | None = OpenParts((), places)
    file: File | None = Adapter(File).validator.validate_json('"YWJj"', context=parts)
    assert file is not None
    path = file.path
    del parts
    assert path.read_bytes() == b"abc"
    file = None
    assert not path.exists()


@pytest.mark.parametrize("size", [10, 300_000])
def test_what_is_dumped_for_a_function_is_parts(places: Places, size: int) -> None:
    parts = CollectedParts(places.spool)
    text = Adapter(Holder).serializer.to_json(Holder(content=b"x" * size), context=parts)
    assert text == b'{"content":{"file":"#0"},"more":[]}'
    (part,) = parts.parts
    assert part.size == size
    assert (part.spool is None) is (size < 100_000)
    value = Adapter(Holder).validator.validate_json(text, context=OpenParts([part], places))
    assert value.content == b"x" * size


def test_schemas_say_base64_or_a_file() -> None:
    schema = Adapter(Holder).json_schema()["properties"]["content"]
    assert {"type": "string", "contentEncoding": "base64"} in schema["anyOf"]
    assert Adapter(bytes).json_schema("serialization") == {
        "type": "string",
        "contentEncoding": "base64",
    }


@pytest.mark.parametrize("hint", [object, list[Spool], dict[str, Places], Annotated[Spool, "x"]])
def test_a_class_that_nobody_knows_is_named(hint: Any) -> None:
    if hint is object:
        assert not Adapter(dict[str, int]).has_value_types
        return
    with pytest.raises(UnknownTypeError, match=r"skipper\.values"):
        Adapter(hint)


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        (bytes, "bytes"),
        (File, "a file"),
        (File | None, "a file"),
        (Annotated[File | list[int], "x"], "a file"),
        (Annotated[bytes, "x"] | int, "bytes"),
        (bytes | File, None),
        (list[bytes], None),
        (int, None),
    ],
)
def test_a_hint_has_one_value_type_or_none(hint: Any, name: str | None) -> None:
    found = value_type_of(hint)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("hint", "has"),
    [
        (int, False),
        (list[str], False),
        (bytes, True),
        (Holder, True),
        (Text, False),
        (list[dict[str, File | None]], True),
        (Annotated[np.ndarray, skipper.Array("float32")], True),
        (list[Annotated[np.ndarray, skipper.Array("float32")]], True),
    ],
)
def test_an_adapter_knows_whether_a_body_is_more_than_json(hint: Any, has: bool) -> None:
    assert Adapter(hint).has_value_types is has


@pytest.mark.parametrize("hint", [dict[str, bytes], Table, Holder, Pair])
def test_making_an_adapter_keeps_nothing_of_who_makes_it(hint: Any) -> None:
    class Large:
        pass

    def make() -> tuple[Adapter, weakref.ref[Large]]:
        large = Large()
        return Adapter(hint), weakref.ref(large)

    gc.disable()
    try:
        adapter, large = make()
        assert large() is None
        assert adapter.has_value_types
    finally:
        gc.enable()


@pytest.mark.parametrize("raw", [b"text", b"\xff\xfe", b""])
def test_bytes_that_no_hint_speaks_of_are_base64_whatever_they_look_like(raw: bytes) -> None:
    text = Adapter(Any).serializer.to_json({"x": [raw]})
    assert base64.urlsafe_b64decode(json.loads(text)["x"][0]) == raw
