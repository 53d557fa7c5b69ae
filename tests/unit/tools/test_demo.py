"""The demonstration, with a stand-in for ``skipper``: how it ends, and its tree with it."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT_S = 60.0
SKIPPER = """
import http.server, json, pathlib, signal, sys

folder = pathlib.Path(__file__).parent
if sys.argv[1] != "up":
    sys.exit(0)
if (folder / "fails").exists():
    print("starting", flush=True)
    sys.exit("error: port 1 is taken")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        items = [{"name": "boston.train", "version": 1}]
        self.answer({"items": items, "broken": []})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"price": 31.5})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Skipper-Model", "boston@1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

def stop(*_):
    (folder / "stopped").touch()
    raise SystemExit(143)

signal.signal(signal.SIGTERM, stop)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
DEMO = """
import sys
from tools import demo
demo.SKIPPER = (sys.executable, sys.argv[1])
sys.exit(demo.main())
"""


class Demo:
    """A run of it. ``terminal`` is what its standard output is then."""

    def __init__(self, folder: Path, *, terminal: int | None = None) -> None:
        self.folder = folder
        script = folder / "skipper.py"
        script.write_text(textwrap.dedent(SKIPPER))
        environment = {k: v for k, v in os.environ.items() if k != "ONCE"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", DEMO, str(script)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[3],
            env=environment,
        )

    @property
    def has_stopped_its_tree(self) -> bool:
        return (self.folder / "stopped").exists()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    for descriptor in (ours, theirs):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_without_a_terminal_it_ends_after_the_answer(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    told, _ = demo.process.communicate(timeout=LIMIT_S)
    assert demo.process.returncode == 0, told
    assert b'{"price": 31.5}' in told
    assert b"curl -s http://127.0.0.1:" in told
    assert b"stays up" not in told
    assert demo.has_stopped_its_tree


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_it_ends_its_tree(
    tmp_path: Path, terminal: tuple[int, int], number: signal.Signals
) -> None:
    ours, theirs = terminal
    demo = Demo(tmp_path, terminal=theirs)
    told = b""
    while b"stays up" not in told:
        told += os.read(ours, 4096)
    assert not demo.has_stopped_its_tree
    demo.process.send_signal(number)
    assert demo.process.wait(LIMIT_S) == 0
    assert demo.has_stopped_its_tree


def test_a_tree_that_does_not_start_is_told_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "fails").touch()
    demo = Demo(tmp_path)
    told, _ = demo.process.communicate(timeout=LIMIT_S)
    assert demo.process.returncode == 1
    assert b"skipper up ended with code 1:\nstarting\nerror: port 1 is taken" in told
