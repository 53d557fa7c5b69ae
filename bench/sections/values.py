"""Pictures, arrays and files, in and out: beside raw Starlette, LitServe, BentoML and the disk."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from bench import peers, tree, wrk
from bench.calls import Caller, calling
from bench.options import Bench
from bench.processes import Server, free_port, memory_mb, running, start
from bench.systems import ROW, uvicorn

JPEG = b"\xff\xd8\xff\xe0" + os.urandom(1_000_000)
"""As large as a picture of a telephone; nobody here looks into it."""
BOUNDARY = "boundary-of-the-benchmark"
ARRAY = np.random.default_rng(0).random(1 << 20, dtype=np.float32)
"""4 MiB."""
NPY = "application/x-npy"
ROLES = ("gateway", "scheduler", "cpu", "cpu-consumer")
_LOOK_S = 0.02
_TRIPS = 21


def run(bench: Bench) -> None:
    with tempfile.TemporaryDirectory(prefix="skipper-bench-values-") as name:
        folder = Path(name)
        picture, form = folder / "picture", folder / "form"
        picture.write_bytes(JPEG)
        form.write_bytes(_form(JPEG))
        for _ in bench.each_round("values"):
            _peers(bench, picture, form)
            with tree.tree_of(["values.py"]) as found, calling(found.port) as caller:
                _pictures(bench, found, picture, form)
                _arrays(bench, found)
                _rows(bench, found)
                _hop(bench, caller)
                _file(bench, found, folder)


def _form(data: bytes) -> bytes:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


_RAW = {"Content-Type": "image/jpeg"}
_MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


# --- pictures ------------------------------------------------------------------------------------


def _peers(bench: Bench, picture: Path, form: Path) -> None:
    for name, command, body, headers in (
        ("starlette", lambda port: uvicorn("raw_values:app", port), picture, _RAW),
        ("litserve", _litserve, form, _MULTIPART),
        ("bentoml", _bentoml, form, _MULTIPART),
    ):
        with _serving(name, command, body, headers) as port:
            _load(bench, name, f"http://127.0.0.1:{port}/predict", body, headers)
            if name == "starlette":
                _echo(bench, name, port, Echo("/echo", _npy(ARRAY), {"Content-Type": NPY}))


def _litserve(port: int) -> Sequence[str | Path]:
    return [peers.PYTHON, "lit_values.py", str(port)]


def _bentoml(port: int) -> Sequence[str | Path]:
    command: list[str | Path] = [peers.PYTHON, "-m", "bentoml", "serve", "bento_values:Size"]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--quiet"]


@contextlib.contextmanager
def _serving(
    name: str,
    command: Callable[[int], Sequence[str | Path]],
    body: Path,
    headers: dict[str, str],
) -> Iterator[int]:
    port = free_port()
    with running(start(command(port), f"{name}-values")) as server, calling(port) as caller:
        _wait(server, caller, body.read_bytes(), headers)
        yield port


def _wait(server: Server, caller: Caller, body: bytes, headers: dict[str, str]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(OSError):
            if caller.ask("POST", "/predict", body, headers).status == 200:
                return
        time.sleep(0.1)
    raise ConnectionError(f"{server.process.args!r} answers no picture")


def _pictures(bench: Bench, found: tree.Tree, picture: Path, form: Path) -> None:
    _load(bench, "skipper", found.url("values.size"), picture, _RAW)
    _load(bench, "skipper_form", found.url("values.size"), form, _MULTIPART)


def _load(bench: Bench, name: str, url: str, body: Path, headers: dict[str, str]) -> None:
    wrk.post(url, body, connections=4, seconds=1, headers=headers)  # warm
    load = wrk.post(url, body, connections=16, seconds=bench.seconds, headers=headers)
    bench.figures.add(f"values.picture.{name}.per_s", load.per_s)
    bench.figures.add(f"values.picture.{name}.p50_ms", load.p50_ms)


# --- arrays --------------------------------------------------------------------------------------


class Echo(NamedTuple):
    """What is sent, and comes back."""

    path: str
    body: bytes
    headers: dict[str, str]


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _arrays(bench: Bench, found: tree.Tree) -> None:
    path = tree.path("values.echo")
    binary = {"Content-Type": NPY, "Accept": NPY}
    _echo(bench, "skipper", found.port, Echo(path, _npy(ARRAY), binary))
    text = json.dumps({"x": ARRAY[: 1 << 18].tolist()}).encode()
    bench.note("As JSON, 4 MiB of float32 are 20 MB, more than is taken: a quarter is sent.")
    _echo(bench, "skipper_json_quarter", found.port, Echo(path, text, {}))


def _echo(bench: Bench, name: str, port: int, request: Echo) -> None:
    """There and back over one connection, one after the other: the median in milliseconds."""
    took = []
    with calling(port) as caller:
        for _ in range(_TRIPS):
            began = time.monotonic()
            answer = caller.post(request.path, request.body, request.headers)
            took.append(time.monotonic() - began)
            if request.headers and answer.body[-4096:] != request.body[-4096:]:
                raise RuntimeError(f"{name} answered another array than it was sent")
    bench.figures.add(f"values.array.{name}.p50_ms", statistics.median(took) * 1000)


def _rows(bench: Bench, found: tree.Tree) -> None:
    """13 floats of each caller, as lists and as rows of one array."""
    body = f'{{"x":{ROW}}}'
    for name in ("lists", "arrays"):
        url = found.url(f"values.{name}")
        wrk.post(url, body, connections=16, seconds=1)  # warm
        load = wrk.post(url, body, connections=64, seconds=bench.seconds)
        bench.figures.add(f"values.rows.{name}.per_s", load.per_s)


def _hop(bench: Bench, caller: Caller) -> None:
    body = json.dumps({"megabytes": bench.scaled(100, 10)}).encode()
    for _ in range(2):  # the first starts the other pool's instance
        told = caller.post(tree.path("values.passed_on"), body).json()
    bench.figures.add("values.hop.passed_s", told["passed_s"])
    bench.figures.add("values.hop.file_s", told["file_s"])


# --- a large file --------------------------------------------------------------------------------


class Peaks:
    """The most memory that each role has held above what it had before, looked at while it runs."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before = {name: memory_mb(pid) for name, pid in pids.items()}
        self.most = dict.fromkeys(pids, 0.0)
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            for name, pid in self._pids.items():
                grown = memory_mb(pid) - self._before[name]
                self.most[name] = max(self.most[name], grown)

    def __enter__(self) -> Peaks:
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looking.join()


def _file(bench: Bench, found: tree.Tree, folder: Path) -> None:
    """A file in, through a task, and out: beside copying and hashing it once each way."""
    source, target, copy = folder / "source", folder / "target", folder / "copy"
    size = bench.scaled(1 << 30, 1 << 24)
    with source.open("wb") as stream:
        for _ in range(0, size, 1 << 24):
            stream.write(os.urandom(1 << 24))
    by_hand = _copied(source, copy) + _copied(copy, target)
    pids = {name: pid for name, pid in found.pids().items() if name in ROLES}
    with Peaks(pids) as peaks:
        began = time.monotonic()
        _through_a_task(found.port, source, target)
        took = time.monotonic() - began
    with source.open("rb") as sent, target.open("rb") as came:
        if (
            hashlib.file_digest(sent, "sha256").digest()
            != hashlib.file_digest(came, "sha256").digest()
        ):
            raise RuntimeError("the file that came back is another")
    bench.figures.add("values.file.by_hand_s", by_hand)
    bench.figures.add("values.file.skipper_s", took)
    for name, grown in peaks.most.items():
        bench.figures.add(f"values.file.{name}_mb", grown)
    bench.figures.add("values.file.most_mb", max(peaks.most.values()))
    for path in (source, target, copy):
        path.unlink()


def _copied(source: Path, target: Path) -> float:
    """How long ``cp`` and ``sha256sum`` take, in seconds."""
    began = time.monotonic()
    target.write_bytes(b"")
    with source.open("rb") as stream, target.open("wb") as copy:
        while data := stream.read(1 << 20):
            copy.write(data)
    with target.open("rb") as stream:
        hashlib.file_digest(stream, "sha256")
    return time.monotonic() - began


def _through_a_task(port: int, source: Path, target: Path) -> None:
    kind = {"Content-Type": "application/octet-stream"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
        with source.open("rb") as stream:
            length = {"Content-Length": str(source.stat().st_size)}
            uploaded = client.post("/v1/files", content=stream, headers=kind | length)
        uploaded.raise_for_status()
        task = client.post(tree.path("values.keep"), json={"file": {"file": uploaded.json()["id"]}})
        task.raise_for_status()
        where = task.headers["location"]
        while client.get(where).json()["state"] in ("queued", "running", "retrying"):
            time.sleep(0.02)
        with client.stream("GET", f"{where}/result") as answer, target.open("wb") as copy:
            answer.raise_for_status()
            for data in answer.iter_bytes(1 << 20):
                copy.write(data)
