"""A stand-in for a role process: up in milliseconds, and it behaves as its command line has it.

``python -I -S launcher_stand_in.py BEHAVIOUR FOLDER --name NAME --control FD [--listen FD]``. What
a test wants to know, it writes into FOLDER: ``starts`` and ``stops`` hold one name a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

NEVER = 10_000.0
DAEMON = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(10000)
"""


class Role:
    """How this process was started, and what every behaviour needs."""

    def __init__(self, folder: Path, options: Mapping[str, str]) -> None:
        self.folder = folder
        self.name = options["--name"]
        self.control = int(options["--control"])
        self.listen = int(options.get("--listen", -1))

    def record(self, file: str, line: object) -> None:
        with (self.folder / file).open("a") as stream:
            stream.write(f"{line}\n")

    def log(self, level: str, message: str, **fields: object) -> None:
        head = {"ts": time.time(), "level": level, "name": self.name, "message": message}
        print(json.dumps(head | fields), file=sys.stderr, flush=True)

    def ready(self) -> None:
        os.write(self.control, b'{"event": "ready"}\n')

    def until_launcher_is_gone(self) -> None:
        while os.read(self.control, 4096):
            pass
        os._exit(70)

    def daemonise(self, environment: Mapping[str, str]) -> None:
        if os.fork():
            os.wait()
            return
        os.setsid()
        if os.fork():
            os._exit(0)
        self.record("daemons", os.getpid())
        command = [sys.executable, "-I", "-S", "-c", DAEMON]
        os.execve(sys.executable, command, environment)


def serve(role: Role, drain_s: float = 0.0) -> None:
    def stop(*_: object) -> None:
        time.sleep(drain_s)
        role.record("stops", role.name)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    role.log("info", "serving", of=str(role.folder))
    role.ready()
    role.until_launcher_is_gone()


def slow(role: Role) -> None:
    serve(role, drain_s=NEVER)


def deaf(role: Role) -> None:
    """Ignores whatever asks it to end, the launcher's death too."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    role.ready()
    time.sleep(NEVER)


def breeding(role: Role) -> None:
    """Leaves a daemon behind: its own session, no parent, no ear for SIGTERM."""
    role.daemonise(dict(os.environ))
    serve(role)


def hiding(role: Role) -> None:
    """Leaves a daemon behind that does not carry the tree's mark."""
    role.daemonise({})
    serve(role)


def masked(role: Role) -> None:
    """Like valkey-server: its environment is gone, and it knows of no launcher."""
    if "SKIPPER_TREE" in os.environ:
        os.execve(sys.executable, [sys.executable, "-I", "-S", *sys.argv], {})
    deaf(role)


def broken(role: Role) -> None:
    role.log("error", "the disk is on fire")
    sys.exit(1)


def refusing(role: Role) -> None:
    role.log("error", "no way to the database")
    sys.exit(9)


def late(role: Role) -> None:
    """Is never ready."""
    role.until_launcher_is_gone()


def noisy(role: Role) -> None:
    """Writes all kinds of output."""
    os.write(1, b"bad utf-8 \xff and \x1b[31mred\x1b[0m\n")
    os.write(2, b"half a line, ")
    os.write(2, b"its end\nno newline at the end")
    role.ready()
    os.close(1)
    os.close(2)
    time.sleep(NEVER)


def flooding(role: Role) -> None:
    """Writes lines for ever and counts them: whoever waited for its output would stop it."""
    role.ready()
    lines = (b"x" * 1000 + b"\n") * 100
    for count in range(1, 1_000_000):
        os.write(1, lines)
        if count % 50 == 0:
            role.record("flood", count)


def gateway(role: Role) -> None:
    """Answers what the banner asks for."""

    def stop(*_: object) -> None:
        role.record("stops", role.name)
        os._exit(0)

    listener = socket.socket(fileno=role.listen)
    signal.signal(signal.SIGTERM, stop)
    role.ready()
    while True:
        with listener.accept()[0] as connection, contextlib.suppress(OSError):
            answer(role, connection)


def answer(role: Role, connection: socket.socket) -> None:
    head = connection.recv(65536).split(b" ")
    if len(head) < 2:
        return
    answers = json.loads((role.folder / "answers.json").read_text())
    status, document = answers.get(head[1].decode(), [404, {}])
    body = json.dumps(document)
    connection.sendall(f"HTTP/1.1 {status} X\r\n\r\n{body}".encode())


BEHAVIOURS = {
    each.__name__: each
    for each in (
        serve,
        slow,
        deaf,
        breeding,
        hiding,
        masked,
        broken,
        refusing,
        late,
        noisy,
        flooding,
        gateway,
    )
}


def main(behaviour: str, folder: str, *options: str) -> None:
    role = Role(Path(folder), dict(zip(options[::2], options[1::2], strict=True)))
    role.record("starts", role.name)
    role.record("pids", os.getpid())
    BEHAVIOURS[behaviour](role)


if __name__ == "__main__":
    main(*sys.argv[1:])
