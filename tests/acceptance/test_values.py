"""Values of every type cross in every way, and come back as they were sent, bit for bit.

Each type is sent as JSON, in a form, as a raw body and by reference to an uploaded file; to a call,
a task, a batch, and to functions that pass it on (``remote``, ``spawn``, ``map``) or stream it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pytest

import skipper
from skipper.values.kept import IDLE_S, PREFIX
from tests.acceptance.tree import Tree, lent, project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TYPES = {
    "octets": "bytes",
    "file": "skipper.File",
    "array": "np.ndarray",
    "picture": "PIL.Image.Image",
    "frame": "pd.DataFrame",
    "table": "pa.Table",
}
HEAD = """
from collections.abc import Iterator

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa

import skipper
"""
FUNCTIONS = """

@skipper.data
def call_{name}(value: {hint}) -> {hint}:
    return value

@skipper.data(batch=8)
def batch_{name}(value: list[{hint}]) -> list[{hint}]:
    return value

@skipper.data(timeout="60s")
def via_{name}(value: {hint}, how: str) -> {hint}:
    if how == "map":
        return call_{name}.map([value, value])[1]
    return call_{name}.spawn(value).result() if how == "spawn" else call_{name}.remote(value)

@skipper.data
def stream_{name}(value: {hint}) -> Iterator[{hint}]:
    yield value
    yield value
"""
WAYS = ("call", "task", "batch", "remote", "spawn", "map", "stream")
SENT = ("json", "form", "raw", "reference")
ARRAYS = [
    np.arange(60).reshape(60)[: int(np.prod(shape))].reshape(shape).astype(dtype)
    for dtype in [*"?bhiqBIefd"]
    for shape in ((), (0,), (13,), (3, 4, 5))
]


class Sample(NamedTuple):
    """A value as it is sent: its bytes, their type, and its JSON form."""

    media_type: str
    data: bytes
    json: Any
    accept: str
    """The media type that it is asked back in."""


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def png(picture: PIL.Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


RAW = bytes(range(256)) * 3
LARGE = RAW * 700
PICTURE = PIL.Image.fromarray(np.arange(600, dtype=np.uint8).reshape(10, 20, 3))
FRAME = pd.DataFrame({"name": ["a", "b", None], "x": [0.1, 2.5, -3.0], "n": [1, 2, 3]})
TABLE = pa.table({"name": ["a", "b", None], "x": [0.1, 2.5, -3.0], "n": [1, 2, 3]})
RECORDS = json.loads(FRAME.to_json(orient="records"))
OCTETS, NPY, ARROW = (
    "application/octet-stream",
    "application/x-npy",
    "application/vnd.apache.arrow.stream",
)
SAMPLES = {
    "octets": [Sample(OCTETS, data, text(data), OCTETS) for data in (RAW, LARGE, b"")],
    "file": [Sample("audio/wav", data, text(data), "*/*") for data in (RAW, LARGE)],
    "array": [
        Sample(NPY, npy(array), array.tolist(), NPY)
        for array in (*ARRAYS, np.linspace(0, 1, 90_000, dtype="float32").reshape(300, 300))
    ],
    "picture": [Sample("image/png", png(PICTURE), text(png(PICTURE)), "image/png")],
    "frame": [
        Sample(ARROW, arrow(pa.Table.from_pandas(FRAME, preserve_index=False)), RECORDS, ARROW)
    ],
    "table": [Sample(ARROW, arrow(TABLE), RECORDS, ARROW)],
}


def read(name: str, data: bytes) -> Any:
    """What bytes mean, in a form that can be compared."""
    if name == "array":
        return np.load(io.BytesIO(data), allow_pickle=False)
    if name == "picture":
        picture = PIL.Image.open(io.BytesIO(data))
        return (picture.mode, picture.size, picture.tobytes())
    if name in ("frame", "table"):
        return pa.ipc.open_stream(data).read_all()
    return data


def assert_same(name: str, sample: Sample, data: bytes, *, was_json: bool) -> None:
    sent, came = read(name, sample.data), read(name, data)
    if name == "array":
        assert came.shape == sent.shape
        assert came.dtype == sent.dtype or was_json  # JSON does not say which numbers these are
        np.testing.assert_array_equal(came, sent)
    elif name in ("frame", "table"):
        assert came.to_pylist() == sent.to_pylist()
        assert [f.name for f in came.schema] == [f.name for f in sent.schema]
    else:
        assert came == sent


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    source = HEAD + "".join(FUNCTIONS.format(name=n, hint=h) for n, h in TYPES.items())
    folder = project(tmp_path_factory.mktemp("values"), crossing=source)
    with lent(Tree(folder, SKIPPER_POOLS_CPU_QUEUE_WAIT_S="60")) as made:
        made.start().wait_for_functions()
        assert not made.broken()
        yield made
        made.end()


def upload(tree: Tree, sample: Sample) -> str:
    answer = tree.http.post(
        "/v1/files", content=sample.data, headers={"content-type": sample.media_type}
    )
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


def sending(tree: Tree, sample: Sample, sent: str, extra: dict[str, str]) -> dict[str, Any]:
    """What httpx is to post."""
    if sent == "form":
        files = {"value": ("value.bin", sample.data, sample.media_type)}
        return {"files": files, "data": extra}
    if sent == "raw":
        return {
            "content": sample.data,
            "headers": {"content-type": sample.media_type},
            "params": extra,
        }
    value = sample.json if sent == "json" else {"file": upload(tree, sample)}
    return {"json": {"value": value} | extra}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("name", TYPES)
def test_a_value_comes_back_as_it_was_sent(tree: Tree, name: str, sent: str, way: str) -> None:
    function = {"task": "call", "remote": "via", "spawn": "via", "map": "via"}.get(way, way)
    url = f"/v1/functions/crossing.{function}_{name}/invoke"
    for sample in SAMPLES[name]:
        extra = {"how": way} if function == "via" else {}
        request = sending(tree, sample, sent, extra)
        headers = request.setdefault("headers", {})
        headers["accept"] = "application/x-ndjson" if way == "stream" else sample.accept
        if way == "task":
            headers["prefer"] = "respond-async"
        answer = tree.http.post(url, **request)
        if way == "task":
            assert answer.status_code == 202, answer.text
            tree.ended(answer.json()["id"])
            answer = tree.http.get(
                f"{answer.headers['location']}/result", headers={"accept": sample.accept}
            )
        assert answer.status_code == 200, answer.text
        if way == "stream":
            lines = [json.loads(line) for line in answer.text.splitlines()]
            expected = json.loads(json.dumps(sample.json))
            if name == "picture":
                lines = [read(name, base64.b64decode(line)) for line in lines]
                expected = read(name, sample.data)
            assert lines == [expected] * 2
        else:
            media_type = answer.headers["content-type"]
            assert media_type == (sample.media_type if name != "file" else media_type)
            assert_same(name, sample, answer.content, was_json=sent == "json")


# --- other callers -------------------------------------------------------------------------------


def test_curl_sends_a_form_and_keeps_the_answer(tree: Tree, tmp_path: Path) -> None:
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    source.write_bytes(png(PICTURE))
    url = f"{tree.url}/v1/functions/crossing.call_picture/invoke"
    command: list[str | Path] = ["curl", "-sS", "--fail", "-o", target, url]
    command += ["-F", f"value=@{source};type=image/png"]
    subprocess.run(command, check=True, timeout=60)
    assert read("picture", target.read_bytes()) == read("picture", source.read_bytes())


def test_the_standard_librarys_client_sends_a_raw_body(tree: Tree) -> None:
    request = urllib.request.Request(
        f"{tree.url}/v1/functions/crossing.call_octets/invoke",
        data=LARGE,
        headers={"Content-Type": OCTETS},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.read() == LARGE


@pytest.mark.parametrize("name", TYPES)
def test_requests_sends_and_gets_values(tree: Tree, name: str) -> None:
    requests = pytest.importorskip("requests", reason="it comes with TensorFlow")
    url = f"{tree.url}/v1/functions/crossing.call_{name}/invoke"
    for sample in SAMPLES[name]:
        wanted = {"Accept": sample.accept}
        kind = sample.media_type
        for sent in (
            {"data": sample.data, "headers": wanted | {"Content-Type": kind}},
            {"files": {"value": ("a", sample.data, kind)}, "headers": wanted},
            {"json": {"value": {"file": upload(tree, sample)}}, "headers": wanted},
        ):
            answer = requests.post(url, timeout=60, **sent)
            assert answer.status_code == 200, answer.text
            assert_same(name, sample, answer.content, was_json=False)


def test_what_a_large_result_is_stored_as_stands_in_its_tasks_document(tree: Tree) -> None:
    url, headers = "/v1/functions/crossing.call_octets/invoke", {"prefer": "respond-async"}
    for data in (LARGE, b"small"):
        answer = tree.http.post(url, content=data, headers=headers | {"content-type": OCTETS})
        document = tree.ended(answer.json()["id"])
        file = tree.http.get(f"/v1/tasks/{document['id']}").json()["file"]
        result = tree.http.get(document["result"]).content
        assert result == data
        if data is LARGE:
            digest = hashlib.sha256(result).hexdigest()
            expected = {"size": len(LARGE), "media_type": OCTETS, "name": None, "sha256": digest}
            assert file == expected
            shown = run_cli(tree, "tasks", "show", document["id"])
            assert f"sha256 {digest}" in shown.decode()
        else:
            assert file is None


def test_what_goes_to_standard_output_is_what_was_sent(tree: Tree, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(LARGE)
    sent = ("call", "crossing.call_octets", "-F", f"value=@{source}", "-o", "-")
    assert run_cli(tree, *sent, "--accept", OCTETS) == LARGE
    file_id = run_cli(tree, "files", "upload", str(source)).decode().strip()
    assert run_cli(tree, "files", "download", file_id, "-o", "-") == LARGE


def run_cli(tree: Tree, *arguments: str) -> bytes:
    """What the command writes to standard output."""
    command = [sys.executable, "-m", "skipper", *arguments, "--url", tree.url]
    return subprocess.run(command, capture_output=True, timeout=60, check=True).stdout


def test_a_files_name_and_type_stay_with_it(tree: Tree) -> None:
    answer = tree.http.post(
        "/v1/functions/crossing.call_file/invoke",
        files={"value": ("Größe 1.wav", RAW, "audio/wav")},
    )
    assert answer.content == RAW
    assert answer.headers["content-type"] == "audio/wav"
    assert "filename*=UTF-8''Gr%C3%B6%C3%9Fe%201.wav" in answer.headers["content-disposition"]


VALUES = {
    "octets": LARGE,
    "file": LARGE,
    "array": np.linspace(0, 1, 90_000, dtype="float32").reshape(300, 300),
    "picture": PICTURE,
    "frame": FRAME,
    "table": TABLE,
}


def comparable(name: str, value: Any) -> Any:
    """What a client sends or gives back, in a form that can be compared."""
    if name == "array":
        return (value.dtype, value.shape, value.tobytes())
    if name == "picture":
        return (value.mode, value.size, value.tobytes())
    if name in ("frame", "table"):
        table = pa.Table.from_pandas(value) if isinstance(value, pd.DataFrame) else value
        return table.to_pylist()
    return value


@pytest.mark.parametrize("name", TYPES)
def test_clients_send_values_as_they_are_and_give_them_back(tree: Tree, name: str) -> None:
    value = VALUES[name]
    with skipper.Client(tree.url) as client:
        function = f"crossing.call_{name}"
        came = [
            client.call(function, value=value),
            client.spawn(function, value=value).result(),
            *client.map(function, [value, value]),
        ]
    for each in came:
        assert comparable(name, each) == comparable(name, value)


@pytest.mark.parametrize("name", TYPES)
async def test_so_does_the_client_on_asyncio(tree: Tree, name: str) -> None:
    value = VALUES[name]
    async with skipper.AsyncClient(tree.url) as client:
        came = await client.call(f"crossing.call_{name}", value=value)
    assert comparable(name, came) == comparable(name, value)


@pytest.mark.parametrize("name", ["octets", "file", "array", "picture", "table"])
def test_the_command_line_sends_files_and_writes_them(
    tree: Tree, tmp_path: Path, name: str
) -> None:
    sample = SAMPLES[name][-1]
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(sample.data)
    command = [sys.executable, "-m", "skipper", "call", f"crossing.call_{name}", "--url", tree.url]
    command += ["-F", f"value=@{source};type={sample.media_type}", "-o", str(target)]
    command += ["--accept", sample.accept]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert_same(name, sample, target.read_bytes(), was_json=False)


def test_nothing_is_left_in_the_spool(tree: Tree) -> None:
    assert isinstance(tree.http, httpx.Client)
    spool = tree.folder / ".skipper" / "spool"
    left = {path.name for path in spool.iterdir()}
    assert {name for name in left if not name.startswith(PREFIX)} == set()
    end = time.monotonic() + 3 * IDLE_S  # what was to be written again goes when it was not
    while list(spool.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.1)
