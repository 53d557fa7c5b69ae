"""The limits that hold for one function, each with what moves it: an option or a setting. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from skipper.settings.model import Settings
from skipper.settings.pools import PoolSettings
from skipper.spec import DIRECT_TIMEOUT_S, FunctionSpec


class Limit(NamedTuple):
    """One limit. ``value`` is for people: a number with its unit, or what it follows from."""

    what: str
    value: str
    moved_by: str


def limits_of(spec: FunctionSpec, settings: Settings) -> list[Limit]:
    """All that bounds calls and tasks of a function, as far as this machine's settings know."""
    pool = settings.pools.get(spec.pool)
    return [
        *_of_time(spec, pool),
        *_of_number(spec, pool, settings),
        *_of_size(spec, pool, settings),
    ]


def _of_time(spec: FunctionSpec, pool: PoolSettings | None) -> Iterator[Limit]:
    yield Limit("time of a direct call", _s(spec.timeout_s or DIRECT_TIMEOUT_S), "timeout=")
    of_attempt = _s(spec.timeout_s) if spec.timeout_s else "none"
    yield Limit("time of a task's attempt", of_attempt, "timeout=")
    if spec.expires_s:
        yield Limit("time until a task has begun", _s(spec.expires_s), "expires=")
    if pool is not None:
        waits, loads = f"pools.{spec.pool}.queue_wait_s", f"pools.{spec.pool}.load_timeout_s"
        yield Limit("time that a direct call waits", _s(pool.queue_wait_s), waits)
        if spec.start_timeout_s is None:
            yield Limit("time to load", _s(pool.load_timeout_s), f"start_timeout=, {loads}")
    if spec.start_timeout_s is not None:
        yield Limit("time to load", _s(spec.start_timeout_s), "start_timeout=")


def _of_number(
    spec: FunctionSpec, pool: PoolSettings | None, settings: Settings
) -> Iterator[Limit]:
    of_pool = f"pools.{spec.pool}"
    if spec.max_instances:
        yield Limit("instances for direct calls", f"{spec.max_instances}", "max=")
    if pool is not None:
        slots, tasks = str(pool.slots or "twice the cores"), str(pool.task_slots or "the cores")
        yield Limit("direct calls at once in its pool", slots, f"{of_pool}.slots")
        yield Limit("tasks at once in its pool", tasks, f"{of_pool}.task_slots")
        yield Limit("direct calls that wait", f"{pool.queue}", f"{of_pool}.queue")
        yield Limit("those of its pool together", f"{pool.queue_total}", f"{of_pool}.queue_total")
    if spec.concurrency is not None:
        each = f" for each {spec.concurrency_key}" if spec.concurrency_key else ""
        yield Limit("tasks at once", f"{spec.concurrency}{each}", "concurrency=")
    yield Limit("tasks that wait", f"{settings.tasks.waiting}", "tasks.waiting")
    yield Limit("attempts", f"{spec.max_attempts}", "retries=")
    if spec.batch > 1:
        yield Limit("calls that run as one", f"{spec.batch}", "batch=")
    if spec.recycle is not None:
        yield Limit("direct calls of one instance", f"{spec.recycle}", "recycle=")


def _of_size(spec: FunctionSpec, pool: PoolSettings | None, settings: Settings) -> Iterator[Limit]:
    of_pool = f"pools.{spec.pool}"
    if spec.max_input is not None:
        yield Limit("a body", _mib(spec.max_input / (1 << 20)), "max_input=")
    else:
        body = settings.gateway.max_body_mb
        yield Limit("a body", _mib(body), "max_input=, gateway.max_body_mb")
    if pool is not None:
        yield Limit("a value, as JSON", _mib(pool.max_result_mb), f"{of_pool}.max_result_mb")
        yield Limit("waiting calls of its pool", _mib(pool.queue_mb), f"{of_pool}.queue_mb")
    if spec.memory_mb:
        yield Limit("memory of an instance", _mib(spec.memory_mb), "memory=")
    elif pool is not None:
        memory = _mib(pool.memory_mb) if pool.memory_mb else "half the machine's"
        yield Limit("memory of an instance", memory, f"memory=, {of_pool}.memory_mb")


def _s(seconds: float) -> str:
    return f"{seconds:g} s"


def _mib(size: float) -> str:
    return f"{size:g} MiB"
