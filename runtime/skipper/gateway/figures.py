"""What this machine's hosts have counted, asked for when somebody looks."""

from __future__ import annotations

import asyncio
from typing import Any

from skipper.gateway.context import Context
from skipper.ledger.records import ModelVersion
from skipper.wire.messages import GetMetrics, MetricsSnapshot, ModelCalls

ANSWER_S = 1.0
"""What a host has not told by then is left out."""


async def counted(context: Context) -> dict[str, MetricsSnapshot]:
    """What each pool's host has counted, of those that answer."""
    links = context.directory.links
    answers = await asyncio.gather(
        *(link.ask(GetMetrics(), ANSWER_S) for link in links.values()), return_exceptions=True
    )
    return {
        pool: answer
        for pool, answer in zip(links, answers, strict=True)
        if not isinstance(answer, BaseException)
    }


async def calls_of(context: Context, version: ModelVersion) -> list[dict[str, Any]]:
    """The direct calls that a version has answered here while it serves, by function."""
    return [
        _document(each, pool)
        for pool, found in (await counted(context)).items()
        for each in found.models
        if (each.model, each.version) == (version.name, version.version)
    ]


def _document(each: ModelCalls, pool: str) -> dict[str, Any]:
    count = sum(each.duration.counts)
    mean_s = each.duration.sum / count if count else None
    figures = {"outcomes": each.outcomes, "count": count, "mean_s": mean_s}
    return {"function": each.function, "pool": pool} | figures
