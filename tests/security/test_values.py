"""Hostile forms, raw bodies, files and values leave a problem, and nothing else."""

from __future__ import annotations

import contextlib
import json
import select
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from skipper.values.kept import PREFIX
from tests.acceptance.tree import Tree
from tests.security.conftest import Connect
from tests.security.raw import Answer

FORM = "Content-Type: multipart/form-data; boundary=XX"
LARGE = b"\xff\x00\r\n--X" * 50_000
DEEP = b"[" * 200_000
SIZE, SMALL = "/v1/functions/crosses.size/invoke", "/v1/functions/crosses.small/invoke"
LEFT_S = 10


def part(name: str, data: bytes = b"x", more: str = "") -> bytes:
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode("latin-1") + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XX--\r\n"


def typed(name: str, kind: str, data: bytes) -> bytes:
    return part(name, data, f"\r\nContent-Type: {kind}")


@pytest.fixture(autouse=True)
def spool(attacked: Tree) -> Iterator[Path]:
    """Where nothing is to be left."""
    folder = attacked.folder / ".skipper" / "spool"
    yield folder
    until = time.monotonic() + LEFT_S
    while folder.is_dir() and (left := _values_in(folder)):
        assert time.monotonic() < until, f"{left} are left"
        time.sleep(0.01)  # the last of it goes after the answer


def _values_in(folder: Path) -> list[Path]:
    """What lies there, but for what is to be written again, which goes within seconds."""
    return [path for path in folder.iterdir() if not path.name.startswith(PREFIX)]


def post(connect: Connect, tree: Tree, path: str, kind: str, body: bytes, *more: str) -> Answer:
    """What a body that is not JSON is answered."""
    with contextlib.closing(connect(tree)) as raw:
        head = [f"POST {path} HTTP/1.1", f"Host: {raw.host}", kind, *more]
        head.append(f"Content-Length: {len(body)}")
        raw.send("\r\n".join([*head, "", ""]).encode("latin-1") + body)
        found: Answer = raw.answer()
        return found


def detail(answer: Answer) -> str:
    found: str = json.loads(answer.body)["detail"]
    return found


BAD_FORMS = {
    "it ends in a part": (part("data", LARGE)[:-100], 400, "in part 'data'"),
    "it ends in a head": (part("data")[:20], 400, "in part 1"),
    "it is empty": (b"", 400, "no boundary has come"),
    "of another boundary": (form(part("data")).replace(b"XX", b"YY"), 400, "cannot be read"),
    "10,000 parts": (form(*[part("items", b"1")] * 10_000), 413, "at most 100 parts"),
    "a part twice": (form(part("data"), part("data")), 422, "/data: it is given more than once"),
    "a text twice": (form(part("data"), part("n", b"1"), part("n", b"2")), 422, "/n: "),
    "a header of 1 MB": (part("data", b"", "\r\nX: " + "y" * 1_000_000), 431, "part 1"),
    "a thousand headers": (
        part("data", b"", "".join(f"\r\nX{n}: y" for n in range(1000))),
        431,
        "part 1",
    ),
    "an unknown name": (form(part("../../x", LARGE)), 422, "no such parameter; there are: data"),
    "no name": (b"--XX\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XX--\r\n", 400, "part 1"),
    "JSON that is none": (
        form(part("data"), typed("n", "application/json", b'1,"label":2')),
        400,
        "part 'n' is not JSON",
    ),
    "JSON that is deep": (
        form(part("data"), typed("items", "application/json", DEEP)),
        400,
        "part 'items' is not JSON",
    ),
    "a text that is deep": (form(part("data"), part("items", DEEP)), 422, "/items"),
    "a text of 2 MB": (form(part("label", b"x" * 2_000_000)), 413, "part 'label'"),
    "100 texts of 100 kB": (form(*[part("items", b"1" * 100_000)] * 100), 413, "part 'items'"),
    "a text that is none": (form(part("data"), part("label", b"\xff")), 422, "part 'label'"),
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_a_hostile_form_is_refused_with_the_part_that_is_wrong(
    attacked: Tree, connect: Connect, name: str
) -> None:
    body, status, said = BAD_FORMS[name]
    answer = post(connect, attacked, SIZE, FORM, body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in detail(answer)


@pytest.mark.parametrize("kind", ["", "; boundary=", "; boundary=" + "x" * 100, "; boundary=\xff"])
def test_a_form_needs_its_boundary(attacked: Tree, connect: Connect, kind: str) -> None:
    head = f"Content-Type: multipart/form-data{kind}"
    assert post(connect, attacked, SIZE, head, form(part("data"))).status == 400


@pytest.mark.parametrize("body", [part("data", LARGE), LARGE])
@pytest.mark.parametrize("is_file", [False, True])
def test_an_upload_that_breaks_off_leaves_nothing(
    attacked: Tree, connect: Connect, body: bytes, is_file: bool
) -> None:
    kind = FORM if body.startswith(b"--XX") and not is_file else "Content-Type: audio/wav"
    path = "/v1/files" if is_file else SIZE
    with contextlib.closing(connect(attacked)) as raw:
        head = f"POST {path} HTTP/1.1\r\nHost: {raw.host}\r\n{kind}\r\nContent-Length: 9000000"
        raw.send(head.encode() + b"\r\n\r\n" + body)


@pytest.mark.parametrize(
    ("kind", "query", "expected"),
    [
        ("Content-Type: image/png", "", (200, "")),
        ("Content-Type: image/png", "?n=5&label=%2e%2e", (200, "")),
        ("Content-Type: image/png", "?m=5", (422, "/m: there is no such parameter")),
        ("Content-Type: image/png", "?n=x", (422, "/n")),
        ("Content-Type: image/png", "?n=1&n=2", (422, "/n")),
        ("Content-Type: image/png", "?data=eA", (422, "/data: it is given more than once")),
        ("Content-Type: image/png", "?label=%ff", (400, "the query cannot be read")),
        ("Content-Type: image/png", "?" + "items=1&" * 200, (400, "the query cannot be read")),
        ("Content-Type: image/png", "?items=" + "[" * 30_000, (422, "/items")),
        ("Content-Type: image/png\r\nContent-Encoding: gzip", "", (415, "Content-Encoding")),
        ("Content-Type: application/vnd.skipper.envelope", "", (200, "")),
    ],
)
def test_a_raw_body_and_its_query_are_read_or_refused(
    attacked: Tree, connect: Connect, kind: str, query: str, expected: tuple[int, str]
) -> None:
    status, said = expected
    answer = post(connect, attacked, SIZE + query, kind, b"\0" * 300_000)
    assert answer.status == status
    assert answer.body == b"300000" if status == 200 else said in detail(answer)


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1])
@pytest.mark.parametrize("is_told", [False, True])
def test_a_body_is_no_larger_than_its_function_lets_it_be(
    attacked: Tree, connect: Connect, size: int, is_told: bool
) -> None:
    body = b"x" * size
    if is_told:
        answer = post(connect, attacked, SMALL, "Content-Type: a/b", body)
    else:
        with contextlib.closing(connect(attacked)) as raw:
            head = f"POST {SMALL} HTTP/1.1\r\nHost: {raw.host}\r\nContent-Type: a/b\r\n"
            head += "Transfer-Encoding: chunked\r\n\r\n"
            raw.send(head.encode(), b"%x\r\n" % size + body + b"\r\n0\r\n\r\n")
            answer = raw.answer()
    assert answer.status == (200 if size <= 1 << 20 else 413)
    if answer.status == 413:
        assert "max_input=" in detail(answer)


def test_no_name_or_type_of_a_callers_becomes_a_path_or_a_header(
    attacked: Tree, connect: Connect
) -> None:
    more = '; filename="..\\\\..\\\\etc/pass\x01wd"\r\nContent-Type: text/html'
    body = form(part("file", b"<script>", more))
    answer = post(connect, attacked, "/v1/functions/crosses.back/invoke", FORM, body)
    assert (answer.status, answer.body) == (200, b"<script>")
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["content-disposition"] == 'attachment; filename="pass_wd"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("size", [5, 300_000])
@pytest.mark.parametrize(
    "media_type", ["text/html", "image/svg+xml", "x/y\r\nSet-Cookie: a=b", "half", "", "a" * 9999]
)
def test_no_type_that_a_function_chose_ends_a_header_or_is_run(
    attacked: Tree, media_type: str, size: int
) -> None:
    given = {"media_type": media_type, "name": 'a\r\n"b/\u202e.svg', "size": size}
    body = json.dumps(given).encode()
    answer = attacked.http.post(
        "/v1/functions/crosses.page/invoke",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 200, answer.text
    assert len(answer.content) == size
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.headers["content-type"] != "application/octet-stream":
        assert answer.headers["content-disposition"].startswith("attachment")


def test_a_caller_who_leaves_takes_its_value_along(attacked: Tree, connect: Connect) -> None:
    with contextlib.closing(connect(attacked, receive_buffer=4096)) as raw:
        body = json.dumps({"media_type": "a/b", "name": "", "size": 20_000_000}).encode()
        head = f"POST /v1/functions/crosses.page/invoke HTTP/1.1\r\nHost: {raw.host}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.send(head.encode() + body)
        assert select.select([raw], [], [], 30)[0]  # its answer has begun


BAD_UPLOADS = {
    "two files": (form(part("a", LARGE, '; filename="a"'), part("b")), 400, "part 'b'"),
    "no file": (form(), 400, "no part that is a file"),
    "a name alone": (form(part("name", b"x")), 400, "no part that is a file"),
    "two names": (form(part("name"), part("name"), part("a")), 422, "part 'name'"),
    "a name that is JSON": (form(typed("name", "application/json", b"{}")), 422, "part 'name'"),
    "it breaks off": (part("a", LARGE), 400, "in part 'a'"),
}


@pytest.mark.parametrize("name", BAD_UPLOADS)
def test_an_upload_by_a_form_is_one_file(attacked: Tree, connect: Connect, name: str) -> None:
    body, status, said = BAD_UPLOADS[name]
    answer = post(connect, attacked, "/v1/files", FORM, body)
    assert answer.status == status
    assert said in detail(answer)


def test_a_form_uploads_its_file(attacked: Tree) -> None:
    answer = attacked.http.post(
        "/v1/files", files={"any": ("../ä.wav", LARGE, "audio/wav")}, data={"name": "é.wav"}
    )
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["size"], made["media_type"], made["name"]) == (len(LARGE), "audio/wav", "é.wav")
    assert attacked.http.get(answer.headers["location"]).content == LARGE


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "id_",
    ["file-" + "0" * 32, "file-" + "0" * 31, "../../ledger.db", "file-%2e%2e%2fx", "#0", "file-"],
)
def test_an_id_that_is_no_files_finds_nothing(attacked: Tree, connect: Connect, id_: str) -> None:
    with contextlib.closing(connect(attacked)) as raw:
        for method in ("GET", "HEAD", "DELETE"):
            assert raw.request(method, f"/v1/files/{quote(id_)}").status in (400, 404, 405)
        body = json.dumps({"file": {"file": id_}}).encode()
        answer = raw.request("POST", SMALL, body=body)
        assert answer.status == 422
        (error,) = json.loads(answer.body)["errors"]
        assert error["pointer"] == "/file"
        assert "there is no file" in error["detail"]


@pytest.mark.parametrize(
    ("wanted", "status", "size"),
    [
        ("bytes=0-4", 206, 5),
        ("bytes=-5", 206, 5),
        ("bytes=5-" + "9" * 5000, 206, 299_995),
        ("bytes=" + "9" * 5000 + "-", 416, 0),
        ("bytes=" + ",".join(["0-1"] * 5000), 200, 300_000),
        ("bytes=\xb2-", 200, 300_000),
        ("lines=1-2", 200, 300_000),
    ],
)
def test_a_range_is_part_of_the_file_or_a_problem(
    attacked: Tree, connect: Connect, wanted: str, status: int, size: int
) -> None:
    content = b"\0<script>" * 33_333 + b"end"
    made = post(connect, attacked, "/v1/files?name=..%2Fa.html", "Content-Type: text/html", content)
    assert made.status == 201
    with contextlib.closing(connect(attacked)) as raw:
        path = made.headers["location"]
        answer = raw.request("GET", path, f"Range: {wanted}")
        assert answer.status == status
        assert len(answer.body) == size or status == 416
        assert raw.request("HEAD", path).headers["content-length"] == "300000"
        whole = raw.request("GET", path)
        assert whole.body == content
        assert whole.headers["content-disposition"] == 'attachment; filename="a.html"'
        assert raw.request("DELETE", path).status == 204
        assert raw.request("GET", path).status == 404


@pytest.mark.parametrize(
    ("path", "media_type", "prefer"),
    [
        ("crosses.back", "audio/wav", "return=minimal"),
        ("crosses.keeps", "audio/wav", "return=minimal, wait=30"),
        ("crosses.small", "application/json", "return=minimal"),
    ],
)
def test_a_value_is_kept_as_a_file_where_its_caller_prefers_that(
    attacked: Tree, path: str, media_type: str, prefer: str
) -> None:
    answer = attacked.http.post(
        f"/v1/functions/{path}/invoke",
        content=LARGE[:200_000],
        headers={"content-type": "audio/wav", "prefer": prefer},
    )
    assert answer.status_code == 200, answer.text
    assert "return=minimal" in answer.headers["preference-applied"]
    made = answer.json()
    assert made["media_type"] == media_type
    file = attacked.http.get(answer.headers["content-location"])
    assert len(file.content) == made["size"]
    if media_type == "audio/wav":
        assert file.content == LARGE[:200_000]
    if "wait" in prefer:
        result = attacked.http.get(f"{answer.headers['location']}/result")
        assert result.content == LARGE[:200_000]
        kept = attacked.http.get(
            f"{answer.headers['location']}/result", headers={"prefer": "return=minimal"}
        )
        assert (kept.json()["sha256"], kept.json()["id"] == made["id"]) == (made["sha256"], False)


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ({"kind": "square", "side": "3"}, 9),
        ({"kind": "circle", "radius": "2"}, 12),
        ({"kind": "circle", "radius": "x"}, "/radius"),
        ({"kind": "circle"}, "/radius"),
        ({"kind": "line"}, "kind"),
        ({"side": "3"}, "kind"),
    ],
)
def test_a_union_of_models_is_a_body_and_a_form(
    attacked: Tree, figure: dict[str, str], value: float | str
) -> None:
    url = "/v1/functions/crosses.area/invoke"
    sent = {name: (None, text) for name, text in figure.items()}
    for answer in (attacked.http.post(url, json=figure), attacked.http.post(url, files=sent)):
        if isinstance(value, str):
            assert (answer.status_code, value in answer.text) == (422, True), answer.text
        else:
            assert (answer.status_code, answer.json()) == (200, value)


def test_the_gateway_still_serves_and_has_raised_nothing(attacked: Tree) -> None:
    answer = attacked.http.post("/v1/functions/bodies.add/invoke", json={"x": 1})
    assert (answer.status_code, answer.json()) == (200, 11)
    assert "Traceback" not in attacked.output
