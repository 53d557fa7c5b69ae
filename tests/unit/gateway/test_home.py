"""The page of the gateway's own address."""

from __future__ import annotations

import re

import pytest

from skipper.gateway.home import MOST, home_document, home_page, wants_json
from skipper.spec import BrokenFile
from skipper.wire.messages import ListedFunction
from tests.unit.gateway.played import SPEC

EVIL = "<script>alert('&')</script>"


def listed(**changed: str) -> ListedFunction:
    return ListedFunction(spec=SPEC.model_copy(update=changed))


def text_of(*functions: ListedFunction, name: str = "houses", broken: str = "") -> str:
    files = [BrokenFile(file="functions/x.py", error=broken)] if broken else []
    return bytes(home_page(name, functions, files).body).decode()


def test_it_names_the_project_its_functions_and_where_to_go() -> None:
    text = text_of(listed(summary="What a house costs."), broken="NameError: np")
    for part in ("<h1>houses</h1>", "POST v1/functions/f.f/invoke", "What a house costs."):
        assert part in text
    assert "functions/x.py</td><td>NameError: np" in text
    assert 'href="docs"' in text


@pytest.mark.parametrize(
    "text",
    [
        text_of(listed(), name=EVIL),
        text_of(listed(summary=EVIL)),
        text_of(listed(name=EVIL)),
        text_of(listed(), broken=EVIL),
    ],
)
def test_nothing_that_is_somebodys_is_markup(text: str) -> None:
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)" in text


def test_it_runs_no_script_and_no_page_may_frame_it() -> None:
    policy = home_page("x", [], []).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    assert "frame-ancestors 'none'" in policy


def test_its_links_hold_below_any_prefix() -> None:
    found = re.findall(r'href="([^"]*)"', text_of())
    assert found
    assert not [address for address in found if address.startswith(("/", "http"))]


def test_of_many_functions_it_lists_some() -> None:
    text = text_of(*[listed(name=f"f.f{n}") for n in range(MOST + 7)])
    assert text.count("<tr>") == MOST + 1
    assert "and 7 more" in text


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("application/json", True),
        ("application/problem+json, application/json;q=0.9", True),
        ("text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_a_program_says_so(accept: str, is_json: bool) -> None:
    assert wants_json(accept) is is_json


def test_programs_are_told_the_same() -> None:
    document = home_document("houses", [listed()], [BrokenFile(file="/x/y/z.py", error="no")])
    assert document["project"] == "houses"
    assert document["functions"] == ["f.f"]
    assert document["broken"] == ["y/z.py"]
