"""Tasks over HTTP that do nothing: how many a second end, and how soon one is seen to have ended.

Many: 16 connections submit for a while; what counts is from the first submission to the last end.
One: submitted, then asked for again and again without a pause, as fast as both sides can.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import redis

from bench import disk, peers, services, tree, wrk
from bench.calls import Caller, calling, until
from bench.options import Bench
from bench.processes import free_port, running, start, wait_for_answer
from bench.systems import Place, uvicorn

BODY = '{"n":1}'
CONNECTIONS = 16
_DRAIN_S = 600.0
_QUIET_S = 1.0
_STEP_S = 0.05
_ENDED = ("succeeded", "failed", "timed_out", "cancelled", "crashed", "expired")


class Tasks(NamedTuple):
    """A system that takes tasks: where, how to see one end, and how many have ended."""

    place: Place
    headers: dict[str, str]
    follow: Callable[[Caller, Any], None]
    """Return once the task of this answer has ended."""
    ended: Callable[[], int]


System = Callable[[], contextlib.AbstractContextManager[Tasks]]


def run(bench: Bench) -> None:
    systems: dict[str, System] = {
        "recipe": recipe,
        "skipper": skipper,
        "skipper_rabbitmq_postgres": lambda: skipper_on_others(bench),
    }
    for _ in bench.each_round("tasks"):
        measure_disk(bench)
        for name, system in systems.items():
            try:
                with system() as tasks:
                    measure(bench, f"tasks.{name}", tasks)
            except peers.MissingError as error:
                bench.note(f"tasks.{name} was not measured: {error}.")


def measure_disk(bench: Bench) -> None:
    """What the disk does where the projects of this section, and their ledgers, lie."""
    with tempfile.TemporaryDirectory(prefix="skipper-bench-") as folder:
        bench.figures.add("tasks.disk.fdatasync_ms", disk.fdatasync_ms(Path(folder)))
        bench.figures.add("tasks.disk.commits_per_s", disk.commits_per_s(Path(folder)))


def measure(bench: Bench, name: str, tasks: Tasks) -> None:
    many(tasks, 1.0)  # warm
    for figure, value in many(tasks, bench.seconds).items():
        bench.figures.add(f"{name}.{figure}", value)
    bench.figures.add(f"{name}.one_p50_ms", one(tasks, bench.seconds) * 1000)
    if name.startswith("tasks.skipper"):
        bench.figures.add(f"{name}.one_waited_p50_ms", _one_waited(tasks, bench.seconds) * 1000)


def many(tasks: Tasks, seconds: float) -> dict[str, float]:
    """Submissions and ends per second, and what one task costs all processes together."""
    cpu_s, before, began = tasks.place.cpu_s(), tasks.ended(), time.monotonic()
    load = wrk.post(
        tasks.place.url, BODY, connections=CONNECTIONS, seconds=seconds, headers=tasks.headers
    )
    count, last = before, began

    def is_over() -> bool:
        """Whether all that was counted has ended, and nothing else has for a while."""
        nonlocal count, last
        now, found = time.monotonic(), tasks.ended()
        if found != count:
            count, last = found, now
        return count - before >= load.requests and now - last > _QUIET_S

    until(is_over, _DRAIN_S, "all tasks have ended", _STEP_S)
    return {
        "submitted_per_s": load.per_s,
        "ended_per_s": (count - before) / (last - began),
        "cpu_us": (tasks.place.cpu_s() - cpu_s) / (count - before) * 1e6,
    }


def one(tasks: Tasks, seconds: float) -> float:
    """The middle of the times of single tasks, one after the other, from submission to its end."""
    with calling(tasks.place.port) as caller:

        def submit() -> None:
            answer = caller.post(tasks.place.path, BODY.encode(), tasks.headers)
            tasks.follow(caller, answer)

        return _median_time(submit, seconds)


def _one_waited(tasks: Tasks, seconds: float) -> float:
    """The same where the caller asks to be answered when the task has ended."""
    with calling(tasks.place.port) as caller:
        return _median_time(
            lambda: caller.post(tasks.place.path, BODY.encode(), {"Prefer": "wait=30"}), seconds
        )


def _median_time(act: Callable[[], object], seconds: float) -> float:
    times, ends = [], time.monotonic() + seconds
    for _ in itertools.takewhile(lambda _: time.monotonic() < ends, itertools.count()):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


# --- systems ---------------------------------------------------------------------------------


@contextlib.contextmanager
def recipe() -> Iterator[Tasks]:
    """FastAPI, Celery with its prefork pool on every core, Redis for messages and results."""
    with contextlib.ExitStack() as stack:
        redis_port, broker = stack.enter_context(services.redis_server())
        environment = {"RECIPE_REDIS": f"redis://127.0.0.1:{redis_port}"}
        command: list[str | Path] = [peers.PYTHON, "-m", "celery", "--app", "recipe:worker"]
        command += ["worker", "--loglevel", "warning"]
        worker = start(command, "celery", environment=environment)
        stack.enter_context(running(worker))
        port = free_port()
        web = start(uvicorn("recipe:app", port), "recipe", environment=environment)
        stack.enter_context(running(web))
        place = Place(port, "/tasks", (broker, worker, web))
        wait_for_answer(web, place.port, place.path, BODY.encode())
        results = redis.Redis(port=redis_port, db=1)
        stack.enter_context(contextlib.closing(results))
        tasks = Tasks(place, {}, _follow_recipe, lambda: int(results.dbsize()))
        until(lambda: tasks.ended() > 0, 60.0, "the worker has run a task")
        yield tasks


def _follow_recipe(caller: Caller, answer: Any) -> None:
    place = f"/tasks/{answer.json()['id']}"
    while caller.get(place)["state"] not in ("SUCCESS", "FAILURE"):
        pass


@contextlib.contextmanager
def skipper(settings: Any = None) -> Iterator[Tasks]:
    with tree.tree_of(["plain.py"], settings) as found, calling(found.port) as caller:
        yield of_tree(found, caller)


@contextlib.contextmanager
def skipper_on_others(bench: Bench) -> Iterator[Tasks]:
    with services.rabbitmq_and_postgres(bench) as settings, skipper(settings) as tasks:
        yield tasks


def of_tree(found: tree.Tree, caller: Caller) -> Tasks:
    """The tasks of a tree that is up, one of which it has run already."""
    place = Place(found.port, tree.path("plain.nothing"), (found.server,))
    found.run_task(caller, "plain.nothing", BODY.encode())
    return Tasks(
        place,
        {"Prefer": "respond-async"},
        _follow_skipper,
        lambda: found.succeeded(caller, "plain.nothing"),
    )


def _follow_skipper(caller: Caller, answer: Any) -> None:
    place = answer.headers["location"]
    while caller.get(place)["state"] not in _ENDED:
        pass
