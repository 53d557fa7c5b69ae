"""The campaign: what is sent how much of it, and by several processes at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed

from tests.acceptance.tree import Tree
from tests.security.mutations import here, there
from tests.security.mutations.findings import Findings, total

PIECE = 5000
"""Cases from one seed of a process; the next has the next seed."""
SHARES = {"requests": 0.6, "links": 0.25, "over HTTP": 0.1, "over a link": 0.05}


def campaign(
    tree: Tree,
    cases: int,
    seed: int,
    processes: int,
    tell: Callable[[Findings], None] | None = None,
) -> dict[str, Findings]:
    """Every share of the cases, with several processes at once, by what they were sent to.

    ``tell`` is given what was found so far, from time to time.
    """
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
        begun: dict[Future[Findings], str] = {
            pool.submit(drives[name][0], *drives[name][1], number, size): name
            for name, number, size in _pieces(seed, cases)
        }
        found = {name: Findings() for name in drives}
        for ended in as_completed(begun):
            found[begun[ended]] += ended.result()
            if tell is not None:
                tell(total(found.values()))
    watch.look(found["over HTTP"])
    return found


def _pieces(seed: int, cases: int) -> Iterator[tuple[str, int, int]]:
    """Where they go, a seed and a number of cases each; all shares get on alike."""
    pieces = [
        (start / share, name, seed * 1_000_000 + number, min(PIECE, int(cases * share) - start))
        for name, share in SHARES.items()
        for number, start in enumerate(range(0, int(cases * share), PIECE))
    ]
    for _, name, number, size in sorted(pieces):
        yield name, number, size
