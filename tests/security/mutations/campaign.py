"""The campaign: what is sent how much of it, and by several processes at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

from tests.acceptance.tree import Tree
from tests.security.mutations import here, there
from tests.security.mutations.findings import Findings, total

PIECE = 5000
"""Cases from one seed of a process; the next has the next seed."""
SHARES = {"requests": 0.6, "links": 0.25, "over HTTP": 0.1, "over a link": 0.05}


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
