"""Which limits hold for a function: https://github.com/nuclio/nuclio/issues/2788"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skipper.gateway.function_limits import limits_of
from skipper.settings.model import Settings
from skipper.settings.pools import PoolSettings
from skipper.spec import FunctionSpec, Kind

POOLS = {"cpu": PoolSettings(queue=10, slots=3), "big": PoolSettings(memory_mb=9000)}


def limits(**options: Any) -> dict[str, tuple[str, str]]:
    """What is limited → the limit, and what moves it."""
    given: dict[str, Any] = {"name": "f.f", "kind": Kind.DATA, "file": "functions/f.py", "line": 1}
    given |= {"code": "c0de", "input_schema": {}, "output_schema": {}} | options
    found = limits_of(FunctionSpec(**given), Settings(project_dir=Path("/p"), pools=POOLS))
    return {each.what: (each.value, each.moved_by) for each in found}


@pytest.mark.parametrize(
    ("options", "what", "limit"),
    [
        ({}, "time of a direct call", ("60 s", "timeout=")),
        ({}, "time of a task's attempt", ("none", "timeout=")),
        ({"timeout_s": 0.5}, "time of a task's attempt", ("0.5 s", "timeout=")),
        ({}, "direct calls that wait", ("10", "pools.cpu.queue")),
        ({"pool": "big"}, "direct calls that wait", ("1000", "pools.big.queue")),
        ({}, "direct calls at once in its pool", ("3", "pools.cpu.slots")),
        ({}, "tasks at once in its pool", ("the cores", "pools.cpu.task_slots")),
        ({"batch": 64}, "calls that run as one", ("64", "batch=")),
        (
            {"concurrency": 1, "concurrency_key": "u"},
            "tasks at once",
            ("1 for each u", "concurrency="),
        ),
        ({}, "a body", ("8 MiB", "max_input=, gateway.max_body_mb")),
        ({"max_input": 1 << 20}, "a body", ("1 MiB", "max_input=")),
        ({}, "memory of an instance", ("half the machine's", "memory=, pools.cpu.memory_mb")),
        ({"pool": "big"}, "memory of an instance", ("9000 MiB", "memory=, pools.big.memory_mb")),
        ({"memory_mb": 5}, "memory of an instance", ("5 MiB", "memory=")),
        ({"start_timeout_s": 5}, "time to load", ("5 s", "start_timeout=")),
        ({"retries": 2}, "attempts", ("3", "retries=")),
    ],
)
def test_each_limit_is_there_with_what_moves_it(
    options: dict[str, Any], what: str, limit: tuple[str, str]
) -> None:
    assert limits(**options)[what] == limit


def test_of_a_pool_elsewhere_what_the_function_says_is_known() -> None:
    found = limits(pool="far", timeout_s=3)
    assert found["time of a direct call"] == ("3 s", "timeout=")
    assert not any("pools." in moved_by for _, moved_by in found.values())
