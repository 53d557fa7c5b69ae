"""The demonstration: start the tree, train on Boston, ask for a price, show where everything is.

With ``ONCE=1``, or when standard output is no terminal, it ends after the answer and leaves nothing
behind; else it stays up until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
SKIPPER = (sys.executable, "-m", "skipper")
LOGS = REPOSITORY / ".skipper" / "logs"
START_LIMIT_S = 180.0
STOP_LIMIT_S = 20.0
FIRST_PORT = 8000
HOUSE = {"crim": 0.03, "rm": 7.2, "age": 45.0, "dis": 4.0, "ptratio": 15.5, "lstat": 4.5}


class DemoError(Exception):
    """The demonstration cannot go on; says why."""


def main() -> int:
    """Run it; the exit code."""
    once = os.environ.get("ONCE") == "1" or not sys.stdout.isatty()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # so that the tree is stopped, too
    try:
        with tree(free_port()) as up:
            show(up.url)
            if not once:
                stay(up)
    except DemoError as error:
        say(f"\ndemo: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nstopped")
        return 0 if not once else 130
    return 0


def show(url: str) -> None:
    """The main job, with the commands that anybody could type."""
    say("Training a small TensorFlow net on 506 Boston census tracts, as a task:\n")
    run(*SKIPPER, "call", "boston.train", "--url", url)
    model = get(f"{url}/v1/models/boston")["items"][0]
    say(f"\nStored as boston@{model['version']}, and served from now on. Asking it for a price:\n")
    body = json.dumps(HOUSE)
    path = f"{url}/v1/functions/boston.predict/invoke"
    say(f"  $ curl -s {path} \\\n      -H 'Content-Type: application/json' -d {shlex.quote(body)}")
    answer, headers = post(path, body.encode())
    say(f"  {json.dumps(answer)}\n")
    served_by = headers["X-Skipper-Model"]
    say(f"That is ${answer['price'] * 1000:,.0f} (of 1978), told by {served_by}.\n")
    keep_out_a_bad_one(url)
    show_a_picture(url)
    say(f"  REST       {url}/v1/functions")
    say(f"  API docs   {url}/docs")
    say(f"  Metrics    {url}/metrics")
    say("  Log        .venv/bin/skipper logs -f\n")


def keep_out_a_bad_one(url: str) -> None:
    """What its gate, in skipper.toml, does with a model that is worse than it may be."""
    say("Training for one epoch only. The gate in skipper.toml keeps the result out:\n")
    run(*SKIPPER, "call", "boston.train", "-p", "epochs=1", "--url", url)
    say("\nIt is stored, and does not serve:\n")
    run(*SKIPPER, "models", "show", "boston", "--url", url)
    say("")


def show_a_picture(url: str) -> None:
    """What a function takes need not be JSON."""
    say("Training another on 1,437 handwritten digits, and sending it a picture of one:\n")
    run(*SKIPPER, "call", "digits.train", "-p", "epochs=5", "--url", url)
    path, picture = f"{url}/v1/functions/digits.predict/invoke", "functions/data/7.png"
    say(f"\n  $ curl -s -F image=@{picture} {path}")
    answer, _ = post(path, (REPOSITORY / picture).read_bytes(), "image/png")
    say(f"  {json.dumps(answer)}\n")


def stay(up: Tree) -> None:
    """Stay up until Ctrl-C, or until somebody stops the tree."""
    say(f"Everything stays up at {up.url}; functions/*.py are live when saved. Ctrl-C stops it.")
    if code := up.process.wait():
        raise DemoError(up.explain(code))
    say("stopped by `skipper down`")


class Tree:
    """``skipper up`` on this repository, and the last that it has said."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        command = (*SKIPPER, "up", "--project", str(REPOSITORY), "--port", str(port), "--reload")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._last: deque[str] = deque(maxlen=5)
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def explain(self, code: int) -> str:
        """Why it ended with this code, in its own words."""
        if code == 0:
            return "this repository's tree runs already; stop it first: .venv/bin/skipper down"
        self._listening.join(1.0)
        told = "".join(self._last).rstrip() or "(it said nothing)"
        return f"skipper up ended with code {code}:\n{told}"

    def stop(self) -> None:
        """Stop it and wait until it is gone; whoever asks again does not hurry that."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._last.append(line.decode("utf-8", "replace"))


@contextlib.contextmanager
def tree(port: int) -> Iterator[Tree]:
    """The tree, once boston.train can be called in it."""
    up = Tree(port)
    try:
        say(f"Starting Skipper at {up.url}")
        wait_until_served(up, "boston.train")
        yield up
    finally:
        up.stop()


def wait_until_served(up: Tree, name: str) -> None:
    """Wait for a function to be live, saying what is waited for."""
    started = time.monotonic()
    told = ""
    while time.monotonic() - started < START_LIMIT_S:
        if (code := up.process.poll()) is not None:
            raise DemoError(up.explain(code))
        state = state_of(up.url, name)
        if state == "live":
            say(f"  ready after {time.monotonic() - started:.1f} s")
            return
        if state != told:
            say(f"  {state}")
            told = state
        time.sleep(0.1)
    raise DemoError(f"{name} was not served within {START_LIMIT_S:g} s; see {LOGS}")


def state_of(url: str, name: str) -> str:
    """``live``, or what is being waited for. Raises DemoError where the file is broken."""
    try:
        told = get(f"{url}/v1/functions")
    except (OSError, ValueError):
        return "starting the processes"
    if any(item["name"] == name for item in told["items"]):
        return "live"
    for broken in told["broken"]:
        if name.partition(".")[0] == Path(broken["file"]).stem:
            raise DemoError(f"{broken['file']}:{broken['line']}: {broken['error']}")
    return "up; a template is importing TensorFlow once for all functions that use it"


def free_port() -> int:
    """The first free port from 8000 on."""
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise DemoError(f"ports {FIRST_PORT} to {FIRST_PORT + 99} are all taken")


def run(*command: str) -> None:
    """Run one of Skipper's own commands, shown as it would be typed."""
    say(f"  $ skipper {shlex.join(command[len(SKIPPER) :])}")
    code = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
    if code:
        raise DemoError(f"that ended with code {code}; the log is in {LOGS}")


def get(url: str) -> Any:
    """The JSON at ``url``."""
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.load(reply)


def post(url: str, body: bytes, media_type: str = "application/json") -> tuple[Any, Any]:
    """The JSON that answers a POST, and the headers."""
    request = urllib.request.Request(url, body, {"Content-Type": media_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply), reply.headers
    except urllib.error.HTTPError as error:
        raise DemoError(f"{url} answered {error.code}: {error.read().decode()}") from None


def say(text: str) -> None:
    """Tell whoever watches."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
