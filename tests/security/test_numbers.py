"""Numbers and texts that a database or a float does not hold, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.acceptance.conftest import PLAIN
from tests.acceptance.tree import CPU_ALONE, Tree, lent, project
from tests.integration.services import postgres_url, project_name

__all__ = ["postgres_url"]

NUMBERS = (
    "-1",
    "",
    "nan",
    "1e5",
    "٣",
    "²",
    "0x10",
    str(2**63),
    str(2**64),
    "9" * 5000,
)
NAMES = ("%00", "a%00b", "%01", "%7f", "x" * 201)
TERMS = ("-11", "nan", "inf", "1e400", "1.2.3", ".", "9" * 400, "²", "9" * 25 + "h")


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)],
)
def tree(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tree]:
    """The shared tree, whose ledger is SQLite's, and a small one with PostgreSQL."""
    if request.param == "sqlite":
        yield request.getfixturevalue("attacked")
        return
    url = request.getfixturevalue("postgres_url")
    functions = {
        stem: (PLAIN / "functions" / f"{stem}.py").read_text("utf-8") for stem in ("bodies", "talk")
    }
    settings = f'[project]\nname = "{project_name()}"\n[database]\nurl = "{url}"\n'
    folder = project(tmp_path_factory.mktemp("numbers"), settings, **functions)
    with lent(Tree(folder, *CPU_ALONE)) as grown:
        yield grown.ready()
        grown.end()


@pytest.fixture(scope="module")
def task(tree: Tree) -> str:
    """The path of a task that has ended."""
    location = tree.invoke("bodies.add", {"x": 1}, prefer="wait=20").headers["location"]
    return str(location)


def refused(tree: Tree, path: str) -> None:
    response = tree.get(path)
    assert response.status_code == 400, (path[:80], response.text)
    assert response.json()["type"].startswith("/problems/")


@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: repr(text[:20]))
def test_a_number_that_is_none_or_is_out_of_range_is_refused(
    tree: Tree, task: str, number: str
) -> None:
    for name in ("attempt", "cursor", "limit"):
        refused(tree, f"{task}/logs?{name}={quote(number)}")
    for path in (f"{task}?wait=", "/v1/tasks?limit=", "/v1/tasks?cursor=", "/v1/models/m?limit="):
        refused(tree, path + quote(number))
    if number:
        refused(tree, f"/v1/models/m?cursor={quote(number)}")


def test_an_attempt_has_a_number_that_both_databases_hold(tree: Tree, task: str) -> None:
    refused(tree, f"{task}/logs?attempt={2**31}")
    assert tree.json(f"{task}/logs?attempt={2**31 - 1}")["items"] == []


def test_a_place_among_events_is_any_that_both_databases_hold(tree: Tree, task: str) -> None:
    for place in (2**31, 2**63 - 1):
        assert tree.json(f"{task}/logs?cursor={place}")["items"] == []


@pytest.mark.parametrize("place", [str(2**63), "9" * 18, "9" * 400, "-1", "1-" + "9" * 400, "²"])
def test_a_place_in_a_stream_is_never_an_error(tree: Tree, task: str, place: str) -> None:
    response = tree.get(f"{task}/events", headers={"Last-Event-ID": place.encode("latin-1")})
    assert response.status_code in (200, 204)


@pytest.mark.parametrize("name", NAMES, ids=lambda text: text[:10])
def test_a_filter_that_no_name_can_be_is_refused(tree: Tree, name: str) -> None:
    refused(tree, f"/v1/tasks?function={name}")
    refused(tree, f"/v1/tasks?schedule={name}")
    refused(tree, f"/v1/tasks?state={name}")
    refused(tree, f"/v1/tasks?cursor={name}")
    for kind in ("models", "schedules", "functions", "tasks"):
        refused(tree, f"/v1/{kind}/{name}")


@pytest.mark.parametrize("name", ["%ED%A0%80", "%ff", "%F0%9F%98%80", "' OR 1=1 --", "%", ""])
def test_a_filter_of_odd_letters_finds_nothing(tree: Tree, name: str) -> None:
    assert tree.json(f"/v1/tasks?function={name}")["items"] == []
    assert tree.json(f"/v1/tasks?schedule={name}&state=failed")["items"] == []


@pytest.mark.parametrize("header", ["X-Skipper-Delay", "X-Skipper-Expires", "X-Skipper-Priority"])
@pytest.mark.parametrize("text", TERMS, ids=lambda text: text[:10])
def test_a_term_of_a_task_that_cannot_be_is_refused(tree: Tree, header: str, text: str) -> None:
    sent = {header: text.encode("latin-1")}
    response = tree.post("/v1/functions/bodies.add/invoke", headers=sent, json={"x": 1})
    assert response.status_code == 400
    assert header in response.json()["detail"]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 250 + "e90", "9" * 5000])
def test_a_number_that_no_float_holds_is_refused(tree: Tree, number: str) -> None:
    json = {"Content-Type": "application/json"}
    for body in (f'{{"value": {number}}}', f'{{"value": [{{"deep": {number}}}]}}'):
        path = "/v1/functions/bodies.echo/invoke"
        assert tree.post(path, content=body, headers=json).status_code == 400
        as_task = {**json, "Prefer": "respond-async"}
        assert tree.post(path, content=body, headers=as_task).status_code == 400
    body = f'{{"house": {{"rooms": 1, "area": {number}}}}}'
    assert (
        tree.post("/v1/functions/bodies.both/invoke", content=body, headers=json).status_code == 400
    )


def test_text_that_no_database_has_hides_no_task(tree: Tree) -> None:
    task_id = tree.submit("talk.half_a_letter")
    error = tree.ended(task_id)["error"]
    assert error["detail"] == "ValueError: half ? a letter, and \0"
    assert tree.get(f"/v1/tasks/{task_id}/result").json()["detail"] == error["detail"]
    assert task_id in [item["id"] for item in tree.json("/v1/tasks")["items"]]
    assert tree.json(f"/v1/tasks/{task_id}/attempts")["items"][0]["error"] == error
    assert "event: done" in tree.get(f"/v1/tasks/{task_id}/events").text
    lines = [item["text"] for item in tree.json(f"/v1/tasks/{task_id}/logs")["items"]]
    assert lines == ["no \0 text", "no \0 text"]
