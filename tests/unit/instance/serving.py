"""Serves one function over a real socket pair, and reads what the host would receive."""

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from skipper.blobs import BlobStore
from skipper.function.decorators import Function
from skipper.instance import aio, runner
from skipper.instance.calls import ServedFunction
from skipper.instance.link import HostLink
from skipper.instance.models import LoadedModels
from skipper.instance.plugins import Plugins
from skipper.outcomes import Outcome
from skipper.wire import calls, frames
from skipper.wire.calls import CallHead
from skipper.wire.frames import Frame, FrameKind

CODE = "c0dec0dec0de"
PLUGIN = """
import json
import skipper

@skipper.hook
def skipper_save_model(value, folder):
    if isinstance(value, dict):
        (folder / "value.json").write_text(json.dumps(value))
        return "tiny"

@skipper.hook
def skipper_load_model(format, folder):
    return json.loads((folder / "value.json").read_text()) if format == "tiny" else None
"""


class Reply(NamedTuple):
    """A REPLY, taken apart."""

    outcome: Outcome
    served: str
    value: Any
    """The value, or the problem's members."""


def call(body: Any = None, id_: int = 1, **head: Any) -> tuple[int, int, bytes]:
    """A CALL frame; ``body`` is JSON as bytes, or a value."""
    text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given: dict[str, Any] = {
        "budget_ms": 0,
        "flags": 0,
        "depth": 0,
        "name": "f.f",
        "context": "req-1",
    } | head
    return FrameKind.CALL, id_, calls.call_head(CallHead(**given)) + text


def parse(frame: Frame) -> Reply:
    assert frame.kind == FrameKind.REPLY
    outcome, served, body = calls.parse_reply(frame.payload)
    return Reply(Outcome(outcome), served.decode(), json.loads(body) if body else None)


def calls_in(sent: tuple[int, int, bytes]) -> int:
    """How many replies a frame of the host asks for."""
    kind, _, payload = sent
    if kind == FrameKind.BATCH:
        return len(frames.Splitter().feed(payload))
    return kind == FrameKind.CALL


class Serving:
    """One instance's end and its host's. The host hangs up once every call has been answered."""

    def __init__(self, folder: Path, plugins: Plugins) -> None:
        self.models = LoadedModels(
            BlobStore(str(folder / "blobs")),
            plugins,
            tmp_dir=folder / "tmp",
            models_dir=folder / "models",
        )
        self.ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(10.0)  # an instance that sends nothing fails a test, not the run
        self.link = HostLink(self.ours)
        self.max_result = 0

    def calls(self, function: Function[..., Any]) -> ServedFunction:
        return ServedFunction(self.link, function, self.models, CODE, self.max_result)

    def run(
        self,
        function: Function[..., Any],
        *sent: tuple[int, int, bytes],
        until: int | None = None,
        react: Callable[[Frame], bytes] = lambda _: b"",
    ) -> list[Frame]:
        """Say these frames and serve until all calls are answered; every frame of the instance.

        With ``until`` the host hangs up after so many frames instead. ``react`` is what it sends
        for each frame that it receives.
        """
        self.theirs.sendall(b"".join(frames.pack(*frame) for frame in sent))
        replies = sum(map(calls_in, sent))
        received: list[Frame] = []

        def is_over() -> bool:
            answered = sum(frame.kind == FrameKind.REPLY for frame in received)
            return answered >= replies if until is None else len(received) >= until

        host = threading.Thread(target=self.receive, args=(received, is_over, react))
        host.start()
        with own_signals():
            if function.signature.is_async:
                aio.run(aio.serve(self.link, self.calls(function)))
            else:
                runner.serve(self.link, self.calls(function))
        self.ours.close()
        host.join()
        return received

    def receive(
        self, received: list[Frame], is_over: Callable[[], bool], react: Callable[[Frame], bytes]
    ) -> None:
        """Be the host: add frames to ``received``, hang up when it is over, read the rest."""
        splitter, hung_up = frames.Splitter(), False
        while True:
            if not hung_up and (hung_up := is_over()):
                self.theirs.shutdown(socket.SHUT_WR)
            if not (data := self.theirs.recv(1 << 16)):
                return
            new = splitter.feed(data)
            received += new
            if answer := b"".join(map(react, new)):
                self.theirs.sendall(answer)

    def answers(self, function: Function[..., Any], *sent: tuple[int, int, bytes]) -> list[Reply]:
        """The replies alone, in the order of their calls."""
        received = [frame for frame in self.run(function, *sent) if frame.kind == FrameKind.REPLY]
        return [parse(frame) for frame in sorted(received, key=lambda frame: frame.id)]

    def answer(self, function: Function[..., Any], *sent: tuple[int, int, bytes]) -> Reply:
        (only,) = self.answers(function, *sent)
        return only

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.ours.shutdown(socket.SHUT_RDWR)
        self.ours.close()
        self.theirs.close()


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """An instance takes SIGTERM over; the tests' process gets it back."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
