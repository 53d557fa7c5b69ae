"""What a client asks of models: their versions, and which of them serve. No I/O."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from skipper.client.bodies import StreamedBody
from skipper.client.flows import exchange, get, model_path, task_path
from skipper.client.messages import Flow, Outlet, Reply, Request
from skipper.client.sources import BodySource

JSON = {"content-type": "application/json"}


def version(name: str, at: int | str) -> Flow[dict[str, Any]]:
    """One version of a model."""
    return get(f"{model_path(name)}/versions/{quote(str(at), safe='')}")


def export(name: str, at: int | str, to: Path | Outlet) -> Flow[Reply]:
    """One version of a model, written to ``to`` as a tar."""
    path = f"{model_path(name)}/versions/{quote(str(at), safe='')}/archive"
    return (yield from exchange(Request(method="GET", path=path, to=to)))


def import_(source: BodySource, name: str | None) -> Flow[dict[str, Any]]:
    """The version that an archive has become. Not repeatable: it would be two."""
    request = Request(
        method="POST",
        path="/v1/models",
        query={"name": name} if name else {},
        headers={"content-type": "application/x-tar"},
        content=StreamedBody(source),
        timeout_s=None,
        is_repeatable=False,
    )
    reply = yield from exchange(request)
    made: dict[str, Any] = reply.json()
    return made


def rescue(task_id: str, to: Path | Outlet) -> Flow[Reply]:
    """What there is of a model that a task has trained in vain, written to ``to``."""
    return (yield from exchange(Request(method="GET", path=f"{task_path(task_id)}/rescue", to=to)))


def deployment(name: str) -> Flow[dict[str, Any]]:
    """Which versions of a model serve."""
    return get(f"{model_path(name)}/deployment")


def change(name: str, given: dict[str, Any], follows: int | None) -> Flow[dict[str, Any]]:
    """Change members of the record; None follows whichever holds."""
    match = "*" if follows is None else f'"{follows}"'
    return _changed("PUT", f"{model_path(name)}/deployment", given, match)


def terms(at: int | str, *, percent: float | None, why: str | None, force: bool) -> dict[str, Any]:
    """What is said of a promotion."""
    given = {"percent": percent, "why": why, "force": force or None}
    return {"version": at} | {k: v for k, v in given.items() if v is not None}


def promote(name: str, terms: dict[str, Any], follows: int | None) -> Flow[dict[str, Any]]:
    """Put a version in production, or ``percent`` of calls to it. Safe to repeat."""
    return _changed("POST", f"{model_path(name)}/promote", terms, _match(follows))


def roll_back(name: str, why: str | None, follows: int | None) -> Flow[dict[str, Any]]:
    """Put back what was in production before. Not repeatable: that would undo it."""
    path = f"{model_path(name)}/rollback"
    return _changed("POST", path, {"why": why}, _match(follows), is_repeatable=False)


def set_alias(name: str, alias: str, at: int | str) -> Flow[dict[str, Any]]:
    """Have an alias name a version."""
    return _changed("PUT", _alias_path(name, alias), {"version": at})


def delete_alias(name: str, alias: str) -> Flow[dict[str, Any]]:
    """Take an alias away. Not repeatable: the second time there is none."""
    return _changed("DELETE", _alias_path(name, alias), None, is_repeatable=False)


def clear(
    name: str, keep_versions: int | None, keep_days: float | None, *, is_trial: bool
) -> Flow[dict[str, Any]]:
    """Remove old versions that nobody holds. Safe to repeat."""
    given = {"keep_versions": keep_versions, "keep_days": keep_days, "trial": is_trial}
    return _changed("POST", f"{model_path(name)}/gc", given)


def _alias_path(name: str, alias: str) -> str:
    return f"{model_path(name)}/aliases/{quote(alias, safe='')}"


def _match(follows: int | None) -> str:
    return "" if follows is None else f'"{follows}"'


def _changed(
    method: str,
    path: str,
    given: dict[str, Any] | None,
    match: str = "",
    *,
    is_repeatable: bool = True,
) -> Flow[dict[str, Any]]:
    headers, content = {"if-match": match} if match else {}, None
    if given is not None:
        headers |= JSON
        content = json.dumps(given).encode()
    request = Request(
        method=method, path=path, headers=headers, content=content, is_repeatable=is_repeatable
    )
    reply = yield from exchange(request)
    record: dict[str, Any] = reply.json()
    return record
