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

from skipper.cli.body import request_body

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
    assert json.loads(request_body(None, params)) == expected


def test_params_are_put_into_the_data() -> None:
    assert json.loads(request_body('{"a": 1, "b": {"c": 2}}', ["b.d=3", "a=0"])) == {
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
    assert json.loads(request_body(None, [f"x={json.dumps(value)}"])) == {"x": value}


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
