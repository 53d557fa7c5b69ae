"""What hosts have counted, as far as they answer."""

from __future__ import annotations

from typing import Any, cast

import pytest

from skipper.errors import UnavailableError
from skipper.gateway import figures
from skipper.instance.jobs import ModelRef
from skipper.outcomes import Outcome
from skipper.pool.metrics import CallFigures, EditionFigures, PoolMetrics
from skipper.wire.messages import MetricsSnapshot


class Link:
    """A host that has counted calls of a version, or does not answer."""

    def __init__(self, version: int = 0, *seconds: float) -> None:
        self.metrics, found = PoolMetrics(), CallFigures()
        ref = ModelRef(name="net", version=version, digest="d" * 64, format="tiny")
        self.metrics.editions = lambda: [EditionFigures("f.f", (ref,), found)]
        self.is_up = bool(version)
        for each in seconds:
            found.ended(Outcome.OK, each)

    async def ask(self, question: object, limit_s: float) -> MetricsSnapshot:
        if not self.is_up:
            raise UnavailableError("it is away")
        return self.metrics.snapshot(queued=0, instances=())


class Stage:
    """A gateway with these hosts, by their pools."""

    def __init__(self, **links: Link) -> None:
        self.links, self.directory = links, self


async def calls_of(version: int, **links: Link) -> list[dict[str, Any]]:
    asked: Any = type("Version", (), {"name": "net", "version": version})
    return await figures.calls_of(cast(Any, Stage(**links)), asked)


async def test_what_each_pool_has_counted_of_a_version_is_told_by_function() -> None:
    cpu, gpu = await calls_of(7, cpu=Link(7, 0.1, 0.3), gpu=Link(7))
    assert cpu == {
        "function": "f.f",
        "pool": "cpu",
        "outcomes": {"ok": 2},
        "count": 2,
        "mean_s": pytest.approx(0.2),
    }
    assert (gpu["pool"], gpu["count"], gpu["mean_s"]) == ("gpu", 0, None)


async def test_a_host_that_does_not_answer_or_serves_another_version_is_left_out() -> None:
    assert await calls_of(7, cpu=Link(), gpu=Link(8, 0.1)) == []
