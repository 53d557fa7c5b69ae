"""What stands around a consumer in tests: a host that speaks the wire, and its process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest

from skipper.settings.handover import dump
from skipper.settings.model import Settings
from skipper.wire import frames
from skipper.wire.frames import FrameKind
from skipper.wire.handshake import introduced, introduction
from skipper.wire.messages import Hello, LinkRole

POOL = "cpu"


class FakeHost:
    """A pool's host as its consumer sees it. It takes at once, or holds until told."""

    def __init__(self, address: Path) -> None:
        self._address = address
        self._changed = threading.Condition()
        self._held: list[tuple[socket.socket, int]] = []
        self._links: list[socket.socket] = []
        self.holds = False
        self.hellos: list[Hello] = []
        self.takes: list[list[str]] = []
        """The ids of each TAKE frame that came, in order."""

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX)
        self._address.unlink(missing_ok=True)
        self._listener.bind(str(self._address))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Die: all links break at once, and nobody listens."""
        self._address.unlink(missing_ok=True)
        for sock in (self._listener, *self._links):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    @property
    def ids(self) -> list[str]:
        with self._changed:
            return [item for ids in self.takes for item in ids]

    def wait_for(self, ids: Sequence[str], limit_s: float = 60.0) -> None:
        """Until all of ``ids`` have been offered."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._has(ids), limit_s)
        if not done:
            missing = sorted(set(ids) - set(self.ids))
            pytest.fail(f"{len(missing)} of {len(ids)} ids did not come, first {missing[:3]}")

    def _has(self, ids: Sequence[str]) -> bool:
        return set(ids) <= {item for taken in self.takes for item in taken}

    def release(self) -> None:
        """Take all that is held, and from now on everything at once."""
        with self._changed:
            self.holds = False
            held, self._held = self._held, []
        for link, tag in held:
            with contextlib.suppress(OSError):
                link.sendall(frames.pack(FrameKind.TAKEN, tag))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                self._links.append(link)
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        splitter = frames.Splitter()
        with link, contextlib.suppress(OSError):  # one that came as this host died is nobody else's
            link.sendall(frames.pack(FrameKind.HELLO, 0, introduction(LinkRole.HOST)))
            while data := link.recv(65536):
                for frame in splitter.feed(data):
                    self._on_frame(link, frame)

    def _on_frame(self, link: socket.socket, frame: frames.Frame) -> None:
        with self._changed:
            if frame.kind == FrameKind.HELLO:
                self.hellos.append(introduced(frame))
            elif frame.kind == FrameKind.TAKE:
                self.takes.append(frame.payload.decode().split("\n"))
                if self.holds:
                    self._held.append((link, frame.id))
                else:
                    link.sendall(frames.pack(FrameKind.TAKEN, frame.id))
            self._changed.notify_all()


class ConsumerProcess:
    """``python -m skipper.consumer``, as the launcher starts it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = settings.run_dir / "consumer.log"

    def __enter__(self) -> Self:
        self.launcher, control = socket.socketpair()
        file = self._settings.run_dir / "settings.json"
        dump(self._settings, file)
        command = [sys.executable, "-P", "-m", "skipper.consumer", "--pool", POOL]
        command += ["--settings", str(file), "--name", f"{POOL}-consumer"]
        with self._log.open("ab") as log, control:
            self.process = subprocess.Popen(
                [*command, "--control", str(control.fileno())],
                pass_fds=[control.fileno()],
                stderr=log,
                stdout=log,
                # Celery lets these win over its settings; ours must win over them.
                env=os.environ | {"CELERY_BROKER_URL": "amqp://nowhere.invalid//"},
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.launcher.close()

    def wait_ready(self, limit_s: float = 60.0) -> Self:
        self.launcher.settimeout(limit_s)
        try:
            answer = self.launcher.recv(4096)
        except TimeoutError:
            pytest.fail(f"the consumer is not ready:\n{self.log}")
        assert json.loads(answer) == {"event": "ready"}, self.log
        return self

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(60)
