"""What a round leaves in which everything went well, for tests to do harm to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.chaos.checker import check
from tests.chaos.evidence import Evidence
from tests.chaos.history import Effect, Effects
from tests.chaos.look import Look, ending
from tests.chaos.plan import Order


@dataclass
class Scene:
    """A round of two tasks and two direct calls in which everything went well."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    versions: list[dict[str, Any]] = field(default_factory=list)
    by_task: dict[str, list[Effect]] = field(default_factory=dict)
    direct: dict[str, list[Effect]] = field(default_factory=dict)
    later: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    cancel_s: float | None = None
    others: list[Order] = field(default_factory=list)

    def found(self) -> set[str]:
        """The kinds of promises that the checker holds to be broken."""
        evidence = Evidence(
            orders=[
                Order(
                    key="key-w",
                    function="chaos.work",
                    nonce="w",
                    body={"nonce": "w"},
                    cancel_s=self.cancel_s,
                ),
                Order(key="key-t", function="chaos.train", nonce="t", body={"nonce": "t"}),
                *self.others,
            ],
            entries=self.entries,
            effects=Effects(by_task=self.by_task, direct=self.direct),
            look=Look(tasks=self.tasks, values=self.values, attempts={}, versions=self.versions),
            later=[self.later],
        )
        return {violation.kind for violation in check(evidence)}

    def add(self, id_: str, task: dict[str, Any], value: Any = None) -> None:
        """A further task that has ended."""
        self.tasks[id_], self.later[id_] = task, ending(task)
        if value is not None:
            self.values[id_] = value
            self.by_task[id_] = ran(id_, 1, str(value["nonce"]))


def task(function: str, **more: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "function": function,
        "state": "succeeded",
        "attempt": 1,
        "error": None,
    }
    facts |= {"parent_id": None, "schedule": None, "request_id": None}
    return facts | {"finished_at": "then", "code": "c", "model": None} | more


def ran(id_: str, attempt: int, nonce: str) -> list[Effect]:
    return [Effect(id_, attempt, 7, nonce, what) for what in ("start", "end")]


def called(t: float, what: str, op: str, nonce: str, **more: Any) -> dict[str, Any]:
    return {"t": t, "what": what, "op": op, "nonce": nonce, "newest": 0} | more


@pytest.fixture
def scene() -> Scene:
    tasks = {"1": task("chaos.work"), "2": task("chaos.train")}
    return Scene(  # entries of direct calls: 2 and 3 of an echo, 4 and 5 of a serve
        entries=[
            {"t": 0.0, "what": "ok", "op": "submit", "key": "key-w", "id": "1", "status": 202},
            {"t": 0.1, "what": "ok", "op": "submit", "key": "key-t", "id": "2", "status": 202},
            called(1.0, "invoke", "echo", "d0"),
            called(1.1, "ok", "echo", "d0", status=200, model="", body='{"nonce": "d0"}'),
            called(2.0, "invoke", "serve", "s1", newest=1),
            called(
                2.1,
                "ok",
                "serve",
                "s1",
                newest=1,
                status=200,
                model="weights@1",
                body='{"nonce": "s1"}',
            ),
        ],
        tasks=tasks,
        values={
            "1": {"nonce": "w"},
            "2": {"name": "weights", "version": 1, "metrics": {"nonce": "t"}},
        },
        versions=[{"version": 1, "task_id": "2"}],
        by_task={"1": ran("1", 1, "w"), "2": ran("2", 1, "t")},
        direct={"d0": ran("-", 1, "d0"), "s1": ran("-", 1, "s1")},
        later={id_: ending(each) for id_, each in tasks.items()},
    )
