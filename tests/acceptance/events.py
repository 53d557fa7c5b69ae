"""Reads server-sent events, and metrics in Prometheus's text format: as much as the tests need."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.acceptance.tree import Tree


@dataclass(frozen=True, kw_only=True)
class Event:
    type: str
    id: str | None
    data: Any


def sse(response: httpx.Response) -> Iterator[Event]:
    """The events of a stream as they come. The data of each must be JSON."""
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line and not line.startswith(":"):
            name, _, text = line.partition(": ")
            fields[name] = text
        elif not line and "data" in fields:
            data = json.loads(fields["data"])
            yield Event(type=fields["event"], id=fields.get("id"), data=data)
            fields = {}


def events_of(tree: Tree, task_id: str, after: str = "") -> list[Event]:
    """All events of a task up to its end, or those after the one with that id."""
    headers = {"Last-Event-ID": after} if after else {}
    with tree.http.stream("GET", f"/v1/tasks/{task_id}/events", headers=headers) as response:
        return [] if response.status_code == 204 else list(sse(response))


_SAMPLE = re.compile(r'([a-z_:]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\.)*)"')

Sample = tuple[dict[str, str], float]


def metrics(text: str) -> dict[str, tuple[str, list[Sample]]]:
    """Family → its type and its samples. Fails on any line that is not of the format."""
    families: dict[str, tuple[str, list[Sample]]] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in families, f"{name} comes twice"
            assert kind in ("counter", "gauge", "histogram")
            families[name] = kind, []
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, line
        name, labels, value = match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])
        family = name if name in families else re.sub("_(bucket|sum|count)$", "", name)
        families[family][1].append((labels | {"__name__": name}, value))
    return families
