"""The campaign by hand: a number of cases from a seed, and a table of what came of them."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from tests.acceptance.conftest import PLAIN
from tests.acceptance.tree import Tree, lent
from tests.security.mutations import here, there
from tests.security.mutations.findings import Findings, total

PIECE = 5000
"""Cases from one seed of a process; the next has the next seed."""
SHARES = {"requests": 0.6, "links": 0.25, "over HTTP": 0.1, "over a link": 0.05}
Drive = Callable[[int, int], Findings]


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        shutil.copytree(PLAIN, project, ignore=shutil.ignore_patterns("__pycache__"))
        with lent(Tree(project)) as tree:
            found = campaign(tree.ready(), arguments.cases, arguments.seed, arguments.processes)
            tree.end()
    for drive, findings in found.items():
        _show(drive, findings)
    return 1 if total(found.values()).wrong else 0


def campaign(tree: Tree, cases: int, seed: int, processes: int) -> dict[str, Findings]:
    """Every share of the cases, with several processes at once, by what they were sent to."""
    watch = there.Watch(tree)
    port, socket = tree.http.base_url.port, tree.settings.run_dir / "cpu.sock"
    drives: dict[str, tuple[Callable[..., Findings], tuple[object, ...]]] = {
        "requests": (here.requests, ()),
        "links": (here.links, ()),
        "over HTTP": (there.over_http, (port,)),
        "over a link": (there.over_link, (socket,)),
    }
    # Spawned, because a fork would have what this process holds.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        begun: dict[str, list[Future[Findings]]] = {
            name: [
                pool.submit(drive, *where, number, size)
                for number, size in _pieces(seed, int(cases * SHARES[name]))
            ]
            for name, (drive, where) in drives.items()
        }
        found = {name: total(each.result() for each in parts) for name, parts in begun.items()}
    watch.look(found["over HTTP"])
    return found


def _pieces(seed: int, cases: int) -> Iterator[tuple[int, int]]:
    """A seed and a number of cases each, the last the rest."""
    for number, start in enumerate(range(0, cases, PIECE)):
        yield seed * 1_000_000 + number, min(PIECE, cases - start)


def _show(drive: str, findings: Findings) -> None:
    answers = ", ".join(f"{count} of {what}" for what, count in findings.answers.most_common())
    print(f"{drive}: {findings.cases} cases; {answers}")
    for what, count in findings.wrong.items():
        print(f"  WRONG: {count} of {what}")
    for text in findings.shown:
        print(f"    {text}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.security.mutations", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(code)
