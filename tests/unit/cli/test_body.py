"""What -d and -p make of a request's body."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from skipper.cli.body import request_body
from skipper.function.parameters import object_type
from skipper.values.crossing import Adapter

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([], {}),
        (["rm=6.5"], {"rm": 6.5}),
        (
            ["a=true", "b=null", "c=[1,2]", 'd={"x":1}'],
            {"a": True, "b": None, "c": [1, 2], "d": {"x": 1}},
        ),
        (["city=Vilnius", "empty=", 'quoted="1"'], {"city": "Vilnius", "empty": "", "quoted": "1"}),
        (
            ["options.rate=0.1", "options.deep.er=x"],
            {"options": {"rate": 0.1, "deep": {"er": "x"}}},
        ),
        (["q=a=b"], {"q": "a=b"}),
        (["n=NaN", "i=-Infinity"], {"n": "NaN", "i": "-Infinity"}),
        (["a=1", "a=2"], {"a": 2}),
    ],
)
def test_params_are_members(params: list[str], expected: Any) -> None:
    body = request_body(None, params)
    assert (json.loads(body) if isinstance(body, bytes) else body) == expected


def test_params_are_put_into_the_data() -> None:
    assert request_body('{"a": 1, "b": {"c": 2}}', ["b.d=3", "a=0"]) == {
        "a": 0,
        "b": {"c": 2, "d": 3},
    }


def test_data_alone_is_sent_as_it_is() -> None:
    assert request_body('[1,  2.0, "é"]', []) == '[1,  2.0, "é"]'.encode()


def test_data_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "house.json"
    file.write_text('{"rm": 6.5}', "utf-8")
    assert request_body(f"@{file}", []) == b'{"rm": 6.5}'


def test_data_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("[1]"))
    assert request_body("-", []) == b"[1]"


@given(JSON_VALUES)
def test_any_json_given_as_a_param_arrives(value: Any) -> None:
    assert request_body(None, [f"x={json.dumps(value)}"]) == {"x": value}


@pytest.mark.parametrize(
    ("data", "params", "words"),
    [
        ("{rm: 6.5}", [], "not JSON"),
        ("", [], "not JSON"),
        ("[NaN]", [], "NaN is not JSON"),
        ("[1]", ["a=1"], "-p adds members"),
        (None, ["rm"], "NAME=VALUE"),
        (None, ["=1"], "NAME=VALUE"),
        (None, ["a..b=1"], "NAME=VALUE"),
        (None, ["a=1", "a.b=2"], "'a' has a plain value"),
        ("@nowhere.json", [], "No such file"),
        ("@.", [], "directory"),
    ],
)
def test_what_cannot_be_a_body_is_refused(data: str | None, params: list[str], words: str) -> None:
    with pytest.raises(typer.BadParameter, match=words):
        request_body(data, params)


# --- what the function's schema says


class Nested(BaseModel):
    rate: float = 0.1
    label: str = ""
    cover: bytes = b""


SCHEMA = Adapter(
    object_type(
        "input",
        {
            "zip": str,
            "rooms": int,
            "tags": list[str],
            "image": bytes,
            "images": list[bytes],
            "options": Nested,
            "free": Any,
        },
    )
).json_schema()


def body(*params: str, files: tuple[str, ...] = (), data: str | None = None) -> Any:
    return request_body(data, params, files, SCHEMA)


def test_a_text_is_what_the_schema_says() -> None:
    assert body("zip=90210", "rooms=3", "free=5") == {"zip": "90210", "rooms": 3, "free": 5}
    assert body("tags=1", "tags=true") == {"tags": ["1", "true"]}
    assert body("tags=1") == {"tags": ["1"]}
    nested = body("options.rate=1", "options.label=1", "options.cover=AAEC")
    assert nested == {"options": {"rate": 1, "label": "1", "cover": "AAEC"}}
    assert body("zip=@home") == {"zip": "@home"}
    assert body("image=AAEC") == {"image": "AAEC"}


@pytest.mark.parametrize(
    ("param", "words"),
    [
        ("rooms=many", "-p rooms: needs a whole number, not 'many'"),
        ("options=1", "-p options: needs a JSON object"),
        ("image=@nowhere.png", "-p image: nowhere.png: No such file"),
        ("image=@.", "-p image: . is a directory"),
    ],
)
def test_a_text_that_cannot_be_is_refused_with_its_flag(param: str, words: str) -> None:
    with pytest.raises(typer.BadParameter, match=words):
        body(param)


def test_a_file_is_sent_as_it_is_by_either_flag(tmp_path: Path) -> None:
    path = tmp_path / "7.png"
    path.write_bytes(b"\xff")
    for whole in (body(f"image=@{path}"), body(files=(f"image=@{path}",))):
        source = whole["image"]
        assert (source.media_type, source.name, source.data()) == ("image/png", "7.png", b"\xff")
    typed = body(files=(f"image=@{path};type=image/x-odd",))["image"]
    assert typed.media_type == "image/x-odd"
    assert len(body(f"images=@{path}", f"images=@{path}")["images"]) == 2
    assert len(body(f"images=@{path}")["images"]) == 1
    assert body(f"options.cover=@{path}")["options"]["cover"].data() == b"\xff"


def test_a_file_may_be_standard_input_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    assert body(files=("image=@-",))["image"].data() == b"\xff"
    with pytest.raises(typer.BadParameter, match="read once"):
        body(files=("image=@-", "images=@-"))
    with pytest.raises(typer.BadParameter, match="read once"):
        body(files=("image=@-",), data="-")


def test_a_body_that_is_no_text_says_how_to_send_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(typer.BadParameter, match="-F NAME=@FILE"):
        request_body(f"@{tmp_path / 'a'}", [])
