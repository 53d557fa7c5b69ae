"""What both clients and the command line send comes as it is, and answers come back as values."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pytest

import skipper
from skipper.errors import InvalidInputError
from skipper.function.decorators import connect_to
from tests.acceptance.tree import Tree, lent, project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SOURCE = """
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa

import skipper


@skipper.data
def octets(value: bytes, times: int = 1) -> bytes:
    return value * times


@skipper.data
def size(value: bytes) -> int:
    return len(value)


@skipper.data
def several(values: list[bytes], more: dict[str, bytes]) -> dict[str, Any]:
    return {"sizes": [len(each) for each in values], "more": {n: len(v) for n, v in more.items()}}


@skipper.training
def file(value: skipper.File) -> skipper.File:
    return value


@skipper.data
def told(value: skipper.File) -> list[str]:
    return [value.name, value.media_type, value.sha256]


@skipper.data
def array(value: np.ndarray) -> np.ndarray:
    return value


@skipper.data
def plain_list(value: list[float]) -> list[float]:
    return value


@skipper.data
def picture(value: PIL.Image.Image) -> PIL.Image.Image:
    return value


@skipper.data
def frame(value: pd.DataFrame) -> pd.DataFrame:
    return value


@skipper.data
def table(value: pa.Table) -> pa.Table:
    return value


@skipper.data
def place(zip: str, rooms: int = 1) -> list[Any]:
    return [zip, rooms]


@skipper.data
def count(up_to: int, fails: bool = False) -> Iterator[int]:
    yield from range(up_to)
    if fails:
        raise ValueError("no more")


@skipper.data
def lengths(values: list[bytes]) -> Iterator[int]:
    for each in values:
        yield len(each)


@skipper.training
def slow(up_to: int) -> Iterator[int]:
    yield from range(up_to)
"""
RAW = bytes(range(256)) * 3
LARGE = RAW * 2000
PICTURE = PIL.Image.fromarray(np.arange(600, dtype=np.uint8).reshape(10, 20, 3))
FRAME = pd.DataFrame({"name": ["a", "b"], "x": [0.1, 2.5], "n": [1, 2]})
TABLE = pa.table({"name": ["a", "b", None], "x": [0.1, 2.5, -3.0]})


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = project(tmp_path_factory.mktemp("clients"), v=SOURCE)
    with lent(Tree(folder, SKIPPER_POOLS_CPU_QUEUE_WAIT_S="60")) as made:
        made.start().wait_for_functions()
        assert not made.broken()
        yield made
        made.end()


class AwaitedClient:
    """The client on asyncio, each verb run to its end."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __getattr__(self, verb: str) -> Any:
        async def run(*args: Any, **kwargs: Any) -> Any:
            async with skipper.AsyncClient(self._url) as client:
                return await getattr(client, verb)(*args, **kwargs)

        return lambda *args, **kwargs: asyncio.run(run(*args, **kwargs))


@pytest.fixture(params=["blocking", "asyncio"])
def client(request: pytest.FixtureRequest, tree: Tree) -> Iterator[Any]:
    if request.param == "asyncio":
        yield AwaitedClient(tree.url)
        return
    with skipper.Client(tree.url) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "a b.wav"
    made.write_bytes(LARGE)
    return made


def test_bytes_files_and_paths_come_as_they_are(client: Any, path: Path) -> None:
    for value in (RAW, LARGE, b"", path, skipper.File(path), io.BytesIO(RAW), bytearray(RAW)):
        sent = path.read_bytes() if isinstance(value, Path | skipper.File) else value
        sent = sent.getvalue() if isinstance(sent, io.BytesIO) else bytes(sent)
        assert client.call("v.octets", value=value) == sent
    assert client.call("v.octets", value=RAW, times=3) == RAW * 3
    with path.open("rb") as stream:
        stream.seek(10)
        assert client.call("v.octets", {"value": stream}) == LARGE[10:]


def test_a_pipe_is_sent_once_and_in_pieces(client: Any, path: Path) -> None:
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as process:
        assert client.call("v.size", value=process.stdout) == len(LARGE)


def test_values_stand_in_lists_and_objects_too(client: Any, path: Path, tree: Tree) -> None:
    values, more = [RAW, path, LARGE], {"a": RAW, "b": path}
    expected = {
        "sizes": [len(RAW), len(LARGE), len(LARGE)],
        "more": {"a": len(RAW), "b": len(LARGE)},
    }
    assert client.call("v.several", values=values, more=more) == expected
    assert client.call("v.several", values=[], more={}) == {"sizes": [], "more": {}}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(13).astype(dtype).reshape(shape)
        for dtype in ("float32", "int8", "uint16", "bool")
        for shape in ((13,), (13, 1, 1))
    ]
    + [
        np.float64(3.5) * np.ones(()),
        np.zeros((0, 3)),
        np.random.default_rng(1).random((300, 300)),
    ],
)
def test_arrays_come_back_as_arrays_bit_for_bit(client: Any, array: np.ndarray) -> None:
    came = client.call("v.array", value=array)
    assert isinstance(came, np.ndarray)
    assert (came.dtype, came.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(came, array)


def test_an_array_is_a_list_where_the_function_takes_one(client: Any) -> None:
    assert client.call("v.plain_list", value=np.array([0.5, 2])) == [0.5, 2]


def test_pictures_and_tables_come_back_as_such(client: Any) -> None:
    came = client.call("v.picture", value=PICTURE)
    assert (came.mode, came.size, came.tobytes()) == ("RGB", (20, 10), PICTURE.tobytes())
    pd.testing.assert_frame_equal(client.call("v.frame", value=FRAME).to_pandas(), FRAME)
    assert client.call("v.table", value=TABLE).equals(TABLE)


def test_a_file_goes_through_a_task_to_a_path(client: Any, path: Path, tmp_path: Path) -> None:
    to = tmp_path / "back.wav"
    assert client.call_to(to, "v.file", value=path) == to
    assert to.read_bytes() == LARGE
    assert client.call("v.file", value=path) == LARGE
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_spawned_task_has_its_result_as_it_is(tree: Tree, path: Path, tmp_path: Path) -> None:
    with skipper.Client(tree.url) as client:
        handle = client.spawn("v.array", value=np.arange(3, dtype="int16"))
        assert handle.result(30).dtype == np.int16
        to = tmp_path / "r"
        assert client.spawn("v.octets", value=path).result(30, to=to) == to
        assert to.read_bytes() == LARGE


def test_an_uploaded_file_is_named_in_calls_and_forgotten(
    client: Any, path: Path, tmp_path: Path
) -> None:
    record = client.upload(path)
    assert (record["size"], record["media_type"], record["name"]) == (
        len(LARGE),
        "audio/x-wav",
        path.name,
    )
    assert client.call("v.told", value={"file": record["id"]})[0] == path.name
    assert client.file(record["id"])["sha256"] == record["sha256"]
    assert client.download(record["id"], tmp_path / "down").read_bytes() == LARGE
    client.delete_file(record["id"])
    with pytest.raises(skipper.NotFoundError):
        client.file(record["id"])


def test_what_a_function_does_not_take_is_refused_before_or_by_it(client: Any) -> None:
    with pytest.raises(TypeError, match="/zip: the function takes no bytes"):
        client.call("v.place", zip=b"90210")
    with pytest.raises(TypeError, match="binary"):
        client.call("v.size", value=io.StringIO("text"))
    with pytest.raises(FileNotFoundError):
        client.call("v.size", value=Path("/nowhere/at/all"))
    with pytest.raises(InvalidInputError, match="base64"):
        client.call("v.size", value="!!!")


def test_a_connected_process_passes_values_as_they_are(tree: Tree) -> None:
    def array(value: np.ndarray) -> np.ndarray:
        raise AssertionError("called here")

    def octets(value: bytes, times: int = 1) -> bytes:
        raise AssertionError("called here")

    for each in (array, octets):
        each.__module__ = "functions.v"
    remote_array, remote_octets = skipper.data(array), skipper.data(octets)
    large = np.arange(100_000, dtype="float32")
    with skipper.connect(tree.url):
        came = remote_array.remote(large)
        assert came.dtype == np.float32
        np.testing.assert_array_equal(came, large)
        assert remote_array.spawn(large[:3]).result().dtype == np.float32
        assert remote_octets.remote(LARGE, times=2) == LARGE * 2
        assert remote_octets.map([RAW, b""]) == [RAW, b""]
    connect_to(None)


def streamed(tree: Tree, kind: str, name: str, **params: Any) -> list[Any]:
    """The items of a generator, up to the error that is the last of them."""
    items: list[Any] = []

    async def follow() -> None:
        async with skipper.AsyncClient(tree.url) as client:
            async for item in client.stream(name, **params):
                items.append(item)  # noqa: PERF401 - an error must not take those before it along

    try:
        if kind == "asyncio":
            asyncio.run(follow())
        else:
            with skipper.Client(tree.url) as client:
                items.extend(client.stream(name, **params))
    except (skipper.SkipperError, TypeError) as error:
        items.append(error)
    return items


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_a_generators_items_come_up_to_what_it_raises(tree: Tree, kind: str, path: Path) -> None:
    assert streamed(tree, kind, "v.count", up_to=3) == [0, 1, 2]
    assert streamed(tree, kind, "v.count", up_to=0) == []
    assert streamed(tree, kind, "v.lengths", values=[path, RAW]) == [len(LARGE), len(RAW)]
    *items, error = streamed(tree, kind, "v.count", up_to=2, fails=True)
    assert (items, type(error)) == ([0, 1], skipper.FunctionError)
    assert "no more" in str(error)
    (error,) = streamed(tree, kind, "v.count", up_to="many")
    assert isinstance(error, InvalidInputError)
    (error,) = streamed(tree, kind, "v.size", value=RAW)
    assert "is no generator" in str(error)
    (error,) = streamed(tree, kind, "v.slow", up_to=1)
    assert "spawn it" in str(error)
    (error,) = streamed(tree, kind, "v.none")
    assert isinstance(error, skipper.NotFoundError)


# --- the command line


def skipper_(
    tree: Tree, *arguments: str | Path, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "skipper", *map(str, arguments), "--url", tree.url],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
        env=os.environ | {"NO_COLOR": "1"},
    )


def test_the_command_line_sends_files_and_writes_what_comes(
    tree: Tree, path: Path, tmp_path: Path
) -> None:
    to = tmp_path / "out.bin"
    assert skipper_(tree, "call", "v.octets", "-F", f"value=@{path}", "-o", to).returncode == 0
    assert to.read_bytes() == LARGE
    assert skipper_(tree, "call", "v.octets", "-p", f"value=@{path}").stdout == LARGE
    assert skipper_(tree, "call", "v.octets", "-F", "value=@-", data=RAW).stdout == RAW
    assert skipper_(tree, "call", "v.octets", "-p", "value=AAEC", "-p", "times=2").stdout == (
        b"\0\1\2\0\1\2"
    )
    picture = tmp_path / "in.png"
    PICTURE.save(picture)
    call = ("call", "v.picture", "-F", f"value=@{picture}", "-o", tmp_path / "out.bmp")
    assert skipper_(tree, *call).returncode == 0
    assert (tmp_path / "out.bmp").read_bytes()[1:4] == b"PNG"  # which it gives, and BMP it does not
    call = ("call", "v.array", "-d", '{"value": [1, 2]}', "-o", tmp_path / "out.npy")
    assert skipper_(tree, *call).returncode == 0
    assert np.load(tmp_path / "out.npy").tolist() == [1, 2]
    task = ("call", "v.file", "-F", f"value=@{path}", "-o", tmp_path / "task.wav")
    assert skipper_(tree, *task).returncode == 0
    assert (tmp_path / "task.wav").read_bytes() == LARGE


def test_the_command_line_reads_texts_as_the_function_says(tree: Tree) -> None:
    assert skipper_(tree, "call", "v.place", "-p", "zip=90210").stdout == b'["90210", 1]\n'
    refused = skipper_(tree, "call", "v.place", "-p", "zip=1", "-p", "rooms=many")
    assert refused.returncode == 2
    assert b"needs a whole number" in refused.stderr
    refused = skipper_(tree, "call", "v.octets", "-p", "value=no base64!")
    assert refused.returncode == 2
    assert b"base64" in refused.stderr


def test_the_command_line_prints_items_as_they_come(tree: Tree) -> None:
    assert skipper_(tree, "call", "v.count", "-p", "up_to=3", "--stream").stdout == b"0\n1\n2\n"
    failed = skipper_(tree, "call", "v.count", "-p", "up_to=1", "-p", "fails=1", "--stream")
    assert (failed.returncode, failed.stdout) == (1, b"0\n")
    assert b"no more" in failed.stderr
    assert skipper_(tree, "call", "v.size", "-p", "value=AA==", "--stream").returncode == 2


def test_the_command_line_keeps_files(tree: Tree, path: Path, tmp_path: Path) -> None:
    file_id = skipper_(tree, "files", "upload", path).stdout.decode().strip()
    assert skipper_(tree, "call", "v.size", "-p", f"value={file_id}").stdout == (
        f"{len(LARGE)}\n".encode()
    )
    assert path.name.encode() in skipper_(tree, "files", "show", file_id).stdout
    assert skipper_(tree, "files", "download", file_id, "-o", "-").stdout == LARGE
    assert skipper_(tree, "files", "download", file_id, "-o", tmp_path / "b").returncode == 0
    assert (tmp_path / "b").read_bytes() == LARGE
    assert skipper_(tree, "files", "rm", file_id).returncode == 0
    assert skipper_(tree, "files", "show", file_id).returncode == 5
