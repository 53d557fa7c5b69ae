"""Versions of models change hands: under load, beside MLServer, and while a large one is loaded."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers, tree
from bench.calls import Caller, calling
from bench.options import Bench
from bench.processes import free_port, running, start, wait_for_answer
from bench.rate import Rate, Timed
from bench.sections.keras import store_model
from bench.systems import HOUSE, keras_model

PER_S = 200
CHANGES = 50
_PAUSE_S = 0.2
"""Between two changes, beside what each takes."""
_QUIET_S = 10.0
_LARGE_MB = 500
_ROW = json.loads(HOUSE)["x"]
_INFERENCE = {"inputs": [{"name": "x", "shape": [1, len(_ROW)], "datatype": "FP32", "data": _ROW}]}


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model that is served, and how it is exchanged for another version of itself."""

    rate: Rate
    change: Callable[[], int]
    """Has another version serve; its number, 0 where replies do not tell."""


@dataclass
class Production:
    """Which versions were in production when, as far as whoever changes it can tell."""

    changes: list[tuple[float, float, int]] = field(default_factory=list)
    """Of each change: when it was asked for, when it was answered, and the version."""

    def was(self, version: int, call: Timed) -> bool:
        """Whether a version may have been in production at some instant of a call."""
        for number, (asked, _, each) in enumerate(self.changes):
            following = self.changes[number + 1 : number + 2]
            left = following[0][1] if following else call.ended
            if each == version and asked <= call.ended and call.due <= left:
                return True
        return False


def measure(bench: Bench) -> None:
    """One round of all of it."""
    with skipper() as served:
        _measure_swaps(bench, "skipper", served)
    with mlserver() as served:
        _measure_swaps(bench, "mlserver", served)
    _measure_large(bench)


def _measure_swaps(bench: Bench, name: str, served: Served) -> None:
    with served.rate.kept() as quiet:
        time.sleep(max(bench.seconds, _QUIET_S * bench.scale))
    production, first = Production(), []
    with served.rate.kept() as calls:
        production.changes.append((0.0, time.perf_counter(), served.change()))
        for _ in range(bench.scaled(CHANGES, 2)):
            asked = time.perf_counter()
            version = served.change()
            production.changes.append((asked, time.perf_counter(), version))
            time.sleep(_PAUSE_S)
    for _, answered, _ in production.changes[1:]:
        # None where the calls lag behind their clock so much that this one was not made any more.
        first += [call.took_s for call in calls if call.due >= answered][:1]
    add = bench.figures.add
    times, before = [call.took_s for call in calls], _p99(quiet)
    add(f"models.{name}.failed", sum(call.status != 200 for call in calls))
    add(f"models.{name}.wrong", sum(not _is_right(call, production) for call in calls))
    add(f"models.{name}.quiet_p99_ms", before * 1000)
    add(f"models.{name}.p99_ms", _p99(calls) * 1000)
    add(f"models.{name}.p99_times", _p99(calls) / before)
    add(f"models.{name}.worst_ms", max(times) * 1000)
    if first:
        add(f"models.{name}.first_times", statistics.median(first) / statistics.median(times))
    changes = [answered - asked for asked, answered, _ in production.changes[1:]]
    add(f"models.{name}.change_ms", statistics.median(changes) * 1000)


def _is_right(call: Timed, production: Production) -> bool:
    """Whether the version that an answer names, if any, was in production meanwhile."""
    told = call.headers.get("x-skipper-model")
    return told is None or production.was(int(told.rpartition("@")[2]), call)


def _p99(calls: Sequence[Timed]) -> float:
    return statistics.quantiles([call.took_s for call in calls], n=100)[98]


# --- who serves ----------------------------------------------------------------------------------


@contextlib.contextmanager
def skipper() -> Iterator[Served]:
    """Two versions of the Boston model, exchanged by rolling back time and again."""
    with tree.tree_of(["nets.py"]) as found, calling(found.port) as caller:
        store_model(found)
        store_model(found)
        yield Served(rate=_rate_of(found), change=lambda: _rolled_back(caller, "boston"))


def _rate_of(found: tree.Tree) -> Rate:
    return Rate(port=found.port, path=tree.path("nets.predict"), body=HOUSE, per_s=PER_S)


def _rolled_back(caller: Caller, model: str) -> int:
    version: int = caller.post(f"/v1/models/{model}/rollback", b"{}").json()["production"]
    return version


@contextlib.contextmanager
def mlserver() -> Iterator[Served]:
    """The same model on MLServer, loaded anew by its repository's API."""
    port = free_port()
    ports = {"HTTP": port, "GRPC": free_port(), "METRICS": free_port()}
    environment = {f"MLSERVER_{name}_PORT": str(each) for name, each in ports.items()}
    environment |= {"MLSERVER_HOST": "127.0.0.1", "MODEL": str(keras_model())}
    command: list[str | Path] = [peers.MLSERVER.folder / "bin" / "mlserver", "start", "."]
    folder, path = peers.APPS / "mlserver_repository", "/v2/models/boston/infer"
    body = json.dumps(_INFERENCE)
    server = start(command, "mlserver", folder=folder, environment=environment)
    with running(server), calling(port) as caller:
        wait_for_answer(server, port, path, body.encode())

        def loaded_anew() -> int:
            caller.post("/v2/repository/models/boston/load", b"")
            return 0

        yield Served(rate=Rate(port=port, path=path, body=body, per_s=PER_S), change=loaded_anew)


# --- a large model of another function -----------------------------------------------------------


def _measure_large(bench: Bench) -> None:
    """How calls fare while another function of the pool takes up a model of 500 MB."""
    manual = {"models.large.promote": "manual"}
    with tree.tree_of(["nets.py", "large.py"], manual) as found, calling(found.port) as caller:
        store_model(found)
        size = json.dumps({"megabytes": bench.scaled(_LARGE_MB, 10)}).encode()
        for _ in range(2):
            found.run_task(caller, "large.store", size)
        _promote(caller, 1)
        rate = _rate_of(found)
        with rate.kept() as quiet:
            time.sleep(max(bench.seconds, _QUIET_S * bench.scale))
        with rate.kept() as calls:
            _promote(caller, 2)
    bench.figures.add("models.large.failed", sum(call.status != 200 for call in calls))
    bench.figures.add("models.large.p99_times", _p99(calls) / _p99(quiet))
    bench.figures.add("models.large.worst_ms", max(call.took_s for call in calls) * 1000)


def _promote(caller: Caller, version: int) -> None:
    """Have a version of the large model serve, and wait until it does."""
    caller.post("/v1/models/large/promote", json.dumps({"version": version}).encode())
    caller.post(tree.path("large.first"), b"{}")
