"""Forks from a TensorFlow template that each build, fit and predict: does none ever hang?

``python -m bench.forks --forks 1000``. Every call is answered by an instance that has just been
forked and is killed afterwards. It can be run in parts: each adds to `.bench/forks.jsonl`, and the
end tells of this part and of all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from bench import peers, tree
from bench.calls import Caller, calling, until
from bench.figures import Spread

FILE = peers.WORK / "forks.jsonl"
_FUNCTIONS = ("fits.first", "fits.second")
"""Called side by side: the one template forks for both."""
_SAY_EVERY = 50


def run(forks: int) -> Iterator[dict[str, Any]]:
    """What became of each fork: its process, status, seconds from the call to the answer."""
    with tree.tree_of(["fits.py"]) as found, calling(found.port) as caller:
        if not all(template["forks"] for template in found.templates(caller)):
            raise RuntimeError("a template has several threads: instances would be spawned")
        idle: SimpleQueue[str] = SimpleQueue()

        def fork_one(number: int) -> dict[str, Any]:
            function = idle.get()
            try:
                with calling(found.port) as own:
                    return fork(found, own, function, number)
            finally:
                idle.put(function)

        for function in _FUNCTIONS:
            idle.put(function)
        with ThreadPoolExecutor(len(_FUNCTIONS)) as callers:
            yield from callers.map(fork_one, range(forks))


def fork(found: tree.Tree, caller: Caller, function: str, number: int) -> dict[str, Any]:
    """Call a function that has no instance, and end the one that has answered."""
    until(lambda: not found.instances(caller, function), 10.0, "the last instance is gone")
    began = time.monotonic()
    answer = caller.ask("POST", tree.path(function), json.dumps({"number": number}).encode())
    lasted = time.monotonic() - began
    told: dict[str, Any] = {"status": answer.status, "s": lasted, "at": time.time()}
    if answer.status == 200:
        told |= answer.json()
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(told["pid"]), signal.SIGKILL)
    else:
        told["body"] = answer.body.decode("utf-8", "replace")
    return told


def summary(told: list[dict[str, Any]]) -> str:
    """One line on many forks."""
    good = [each for each in told if each["status"] == 200]
    if not good:
        return f"{len(told)} forks, none answered"
    times = Spread.of(each["s"] for each in good)
    fresh = len({each["start"] for each in good})
    return (
        f"{len(told)} forks, {len(told) - len(good)} failed or hung; seconds from call to answer: "
        f"median {times.median:.2f}, {times.low:.2f} to {times.high:.2f}; {fresh} different starts"
    )


def kept(file: Path) -> list[dict[str, Any]]:
    """What all parts so far have found."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.forks", description=__doc__)
    parser.add_argument("--forks", type=int, default=1000)
    parser.add_argument("--anew", action="store_true", help="forget the parts so far")
    arguments = parser.parse_args()
    FILE.parent.mkdir(exist_ok=True)
    if arguments.anew:
        FILE.unlink(missing_ok=True)
    part: list[dict[str, Any]] = []
    with FILE.open("a", encoding="utf-8") as file:
        for told in run(arguments.forks):
            part.append(told)
            print(json.dumps(told), file=file, flush=True)
            if len(part) % _SAY_EVERY == 0:
                peers.say(summary(part))
    peers.say(f"this part: {summary(part)}")
    peers.say(f"all parts: {summary(kept(FILE))}")
    return 0 if all(told["status"] == 200 for told in part) else 1


if __name__ == "__main__":
    sys.exit(main())
