"""Two thousand requests, made up from the OpenAPI document: no answer that it does not name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.acceptance.tree import Tree, lent, project
from tests.security.schema import ANYTHING, Document

CASES = 2000
TOGETHER = 4
SETTINGS = """
[run]
reload = false
[schedules.leap]
function = "houses.prices"
cron = "0 0 29 2 *"
[webhooks.ops]
url = "http://127.0.0.1:9/hook"
secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
functions = ["nobody.*"]
allow_private = true
"""
FUNCTIONS = """
from collections.abc import Iterator
from typing import Annotated, Any
import asyncio, pydantic, skipper

class House(pydantic.BaseModel):
    rooms: int = pydantic.Field(gt=0, le=1000)
    area: float = 50.0
    kind: str | None = None

@skipper.inference
def price(house: House) -> float:
    return house.rooms * 1.0

@skipper.inference(batch=8)
def batched(houses: list[House]) -> list[float]:
    return [house.area for house in houses]

@skipper.data(mode="task")
def prices(houses: list[House] = []) -> list[float]:
    return [house.area for house in houses]

@skipper.data
def echo(value: Any) -> Any:
    return value

@skipper.data
def raises(text: str = "") -> None:
    raise ValueError(text)

@skipper.data(mode="task")
def fails(text: str = "") -> None:
    raise ValueError(text)

@skipper.data
def counts(to: Annotated[int, pydantic.Field(ge=0, le=20)]) -> Iterator[int]:
    yield from range(to)

@skipper.inference
def untrained(x: float, *, model: Annotated[dict[str, Any], skipper.Loaded("none")]) -> float:
    return x

@skipper.data(timeout="50ms")
async def late(text: str = "") -> None:
    await asyncio.sleep(60)
"""


@dataclass(frozen=True)
class Case:
    """One request to an operation of the document, or to a path of it by another method."""

    path: str
    method: str
    url: str
    headers: dict[str, bytes] = field(default_factory=dict)
    body: bytes | None = None


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree with a function, a task, a schedule and a webhook of each kind."""
    folder = project(tmp_path_factory.mktemp("generated"), SETTINGS, houses=FUNCTIONS)
    with lent(Tree(folder)) as grown:
        yield grown.ready()
        assert "Skipper itself failed" not in grown.output
        grown.end()


@pytest.fixture(scope="module")
def document(tree: Tree) -> Document:
    return Document(tree.json("/openapi.json"))


@pytest.fixture(scope="module")
def known(tree: Tree) -> dict[str, list[str]]:
    """By the first part of a path: what is there."""
    ended = [tree.submit(f"houses.{name}") for name in ("prices", "fails")]
    for task_id in ended:
        tree.ended(task_id)
    waits = tree.submit("houses.prices", x_skipper_delay="1h")
    names = [item["name"] for item in tree.json("/v1/functions")["items"]]
    return {
        "tasks": [*ended, waits, "0" * 26],
        "functions": names,
        "models": ["none"],
        "schedules": ["leap", "none"],
        "webhooks": ["ops", "none"],
        "files": [f"file-{'0' * 32}", "none"],
    }


# --- making them up --------------------------------------------------------------------------

_ODD = st.text(max_size=20) | st.sampled_from(
    ["\0", "../..", "%", "1e400", "-1", "9" * 40, "NaN", "é", "\u0663", ""]
)
_PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
_HEADERS: dict[str, st.SearchStrategy[str]] = {
    "Accept": st.sampled_from(["text/event-stream", "application/jsonl", "*/*", "text/html"]),
    "Content-Type": st.sampled_from(["application/json", "text/plain", "application/json; x=y"]),
    "Content-Encoding": st.sampled_from(["gzip", "identity"]),
    "Prefer": st.sampled_from(["respond-async", "wait=0.01", "wait=nan", "return=minimal", "wait"]),
    "Idempotency-Key": st.sampled_from(["one", '"two"', "a b", "\x7f"]),
    "X-Skipper-Priority": st.sampled_from(["1", "-10", "11", "1.5"]),
    "X-Skipper-Delay": st.sampled_from(["1h", "5m", "x", "1e9", "400d"]),
    "X-Skipper-Expires": st.sampled_from(["1h", "0", "-1", "9" * 400]),
    "Origin": st.sampled_from(["null", "http://elsewhere.example"]),
    "Sec-Fetch-Site": st.sampled_from(["same-origin", "cross-site", "none"]),
    "Host": st.sampled_from(["elsewhere.example", "localhost"]),
    "Last-Event-ID": st.sampled_from(["0-1", "7", "x", str(2**63)]),
    "X-Request-Id": _PRINTABLE.map(str.strip),
}
_WAITS = st.sampled_from(["0", "0.01", "-1", "nan", "x", "61", ""])
"""Whatever waits, waits for a moment."""


@st.composite
def requests(
    draw: st.DrawFn, document: Document, known: dict[str, list[str]], path: str, method: str
) -> Case:
    """Requests to one operation, right ones and wrong ones."""
    operation = document.whole["paths"][path][method]
    url, asked = path, {}
    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        if parameter["in"] == "path":
            there = st.sampled_from(known[path.split("/")[2]])
            value = draw(there | there | there | _ODD)
            url = url.replace(f"{{{name}}}", quote(value, safe=""))
        elif parameter["in"] == "query" and draw(st.booleans()):
            right = document.values(parameter["schema"]).map(_as_text)
            asked[name] = draw(_WAITS if name == "wait" else right | right | _ODD)
    if asked:
        url += "?" + "&".join(f"{name}={quote(text, safe='')}" for name, text in asked.items())
    names = draw(st.lists(st.sampled_from(sorted(_HEADERS)), max_size=2, unique=True))
    headers = {name: draw(_HEADERS[name]).encode("latin-1") for name in names}
    body = draw(_bodies(document, operation)) if method == "post" else None
    return Case(path=path, method=method, url=url, headers=headers, body=body)


def _bodies(document: Document, operation: dict[str, Any]) -> st.SearchStrategy[bytes | None]:
    anything = ANYTHING.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20)
    given = operation.get("requestBody")
    if given is None or "application/json" not in given["content"]:
        return st.none() | anything
    right = document.values(given["content"]["application/json"]["schema"])
    texts = right.map(lambda value: json.dumps(value).encode())
    return st.one_of(texts, texts, texts, anything, st.none())


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# --- and what is answered --------------------------------------------------------------------


def wrong(document: Document, client: httpx.Client, case: Case) -> list[str]:
    """What the document does not say of the answer to a request."""
    usual = {"Content-Type": b"application/json"} if case.body else {}
    headers = {name.encode(): value for name, value in (usual | case.headers).items()}
    with client.stream(
        case.method.upper(), case.url, headers=headers, content=case.body
    ) as response:
        kind = response.headers.get("content-type", "").partition(";")[0]
        if kind != "text/event-stream":  # which may have no end
            response.read()
        return [f"{case}: {each}" for each in _wrong(document, case, response, kind)]


def _wrong(document: Document, case: Case, response: httpx.Response, kind: str) -> Iterator[str]:
    declared = document.whole["paths"][case.path][case.method]["responses"]
    status = str(response.status_code)
    if status not in declared:
        yield f"{status} is not declared: {response.text}"
        return
    content = declared[status].get("content", {})
    if kind not in content and (kind or content):
        yield f"{status} is a {kind!r}, not one of {[*content]}"
    elif kind.endswith("json"):
        value = response.json()
        yield from document.wrong(value, content[kind]["schema"])
        if kind == "application/problem+json":
            yield from _wrong_problem(value, response)
    if "x-request-id" not in response.headers:
        yield "it has no id"


def _wrong_problem(value: Any, response: httpx.Response) -> Iterator[str]:
    if value["status"] != response.status_code:
        yield f"{response.status_code} says {value['status']}"
    if value["type"] == "/problems/internal-error":
        yield "Skipper itself failed"
    if (response.status_code == 503) != ("retry-after" in response.headers):
        yield f"{response.status_code} and {response.headers.get('retry-after')!r}"


def test_no_request_is_answered_in_a_way_that_the_document_does_not_name(
    tree: Tree, document: Document, known: dict[str, list[str]]
) -> None:
    kept = httpx.Limits(keepalive_expiry=1.0)  # none is used when the gateway may just close it
    clients = [httpx.Client(base_url=tree.url, timeout=60, limits=kept) for _ in range(TOGETHER)]
    operations = [
        (path, method) for path, found in document.whole["paths"].items() for method in found
    ]
    told: list[str] = []
    asked = 0
    with ThreadPoolExecutor(TOGETHER) as pool:
        for path, method in operations:
            some = [requests(document, known, path, method)] * TOGETHER

            @settings(
                max_examples=math.ceil(CASES / TOGETHER / len(operations)),
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(st.tuples(*some))
            def ask(found: tuple[Case, ...]) -> None:
                nonlocal asked
                asked += len(found)
                for each in pool.map(wrong, [document] * TOGETHER, clients, found):
                    told.extend(each)

            ask()
    for client in clients:
        client.close()
    assert told == [], f"{len(told)} answers, of which the first are {told[:20]}"
    assert asked >= CASES


def test_a_method_that_a_path_has_not_is_named_as_such(tree: Tree, document: Document) -> None:
    for path, operations in document.whole["paths"].items():
        for method in {"get", "post", "put", "patch", "delete"} - operations.keys():
            url = path.replace("{id}", "0" * 26).replace("{name}", "none")
            answer = tree.http.request(method.upper(), url)
            assert answer.status_code == 405, (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert operations.keys() & {
                each.lower() for each in answer.headers["allow"].split(", ")
            }
