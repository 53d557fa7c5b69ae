"""``skipper status`` and ``skipper down``: the project's tree as a whole."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from skipper.cli.functions import broken_line
from skipper.cli.output import RED, info, paint, show, show_json, show_table, span
from skipper.cli.target import Json, Project, Target, Url, own_target
from skipper.errors import UnavailableError
from skipper.exits import Exit
from skipper.settings.urls import masked_url

if TYPE_CHECKING:
    from skipper.settings.model import Settings

_POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class StatusReport:
    """One look at a tree. ``state``: ready, starting, stopping, not answering or not running."""

    state: str
    url: str | None = None
    tree: dict[str, Any] | None = None
    checks: tuple[str, ...] = ()
    """Lines of ``/readyz?verbose``: ``[+]ledger ok``."""
    pools: tuple[dict[str, Any], ...] = ()
    broken: tuple[dict[str, Any], ...] = ()
    """Files that do not load, as ``/v1/functions`` has them."""


class _Answers(NamedTuple):
    """What a gateway tells; whatever cannot be had is empty."""

    checks: tuple[str, ...] = ()
    pools: tuple[dict[str, Any], ...] = ()
    broken: tuple[dict[str, Any], ...] = ()
    is_ready: bool = False


def status(
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is ready.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0, metavar="S", help="How long --wait waits at most.")
    ] = 60.0,
    json_: Json = False,
    project: Project = None,
    url: Url = None,
) -> None:
    """Tell whether the tree is up: its parts, its pools, and what is missing.

    Exits 0 when it is ready, 4 when nothing runs, 1 in between, 6 when --wait was in vain.

    \b
    Examples:
      skipper status
      skipper up --detach && skipper status --wait --timeout 30
      skipper status --json | jq .state
    """
    end = time.monotonic() + timeout
    found = _find(project, url)
    while wait and found.state != "ready" and time.monotonic() < end:
        time.sleep(_POLL_S)
        found = _find(project, url)
    if json_:
        show_json(vars(found))
    else:
        show_status(found)
    raise typer.Exit(_exit_code(found, wait))


def down(
    timeout: Annotated[
        float, typer.Option(min=0, metavar="S", help="How long to wait for its end.")
    ] = 30.0,
    kill: Annotated[
        bool, typer.Option("--kill", help="At once; what runs goes back to the queue.")
    ] = False,
    project: Project = None,
) -> None:
    """Stop the project's tree and wait until it has ended.

    What runs has `run.grace_s` to finish; what does not goes back to the queue. Exits 0 also where
    nothing ran, 6 when it has not ended in time.

    \b
    Examples:
      skipper down
      skipper down --project ~/houses --kill
    """
    from skipper.launcher import client
    from skipper.settings.loading import load_sections

    settings = load_sections(project)
    try:
        has_run = client.down(settings, timeout, kill=kill)
    except TimeoutError as error:
        info(f"{error} `skipper down --kill` ends it at once.")
        raise typer.Exit(Exit.TIMED_OUT) from None
    info("Stopped." if has_run else f"Nothing runs in {settings.project_dir}.")


def status_of(settings: Settings) -> StatusReport:
    """Look at a project's own tree, through its launcher and, if it has one, its gateway."""
    from skipper.launcher import client

    try:
        tree = client.status(settings)
    except UnavailableError:
        return StatusReport(state="not answering")
    if tree is None:
        return StatusReport(state="not running")
    url = tree.get("url")
    if not url:  # a part of a tree, without a gateway
        return StatusReport(state=_state(tree, bool(tree.get("ready"))), tree=tree)
    told = _query(own_target(settings, url))
    return StatusReport(
        state=_state(tree, told.is_ready),
        url=url,
        tree=tree,
        checks=told.checks,
        pools=told.pools,
        broken=told.broken,
    )


def _state(tree: dict[str, Any], is_ready: bool) -> str:
    return "stopping" if tree.get("stopping") else "ready" if is_ready else "starting"


def status_at(where: Target) -> StatusReport:
    """Look at a gateway somewhere, of whose tree nothing else is known."""
    told = _query(where)
    state = "ready" if told.is_ready else "starting" if told.checks else "not running"
    url = masked_url(where.url)
    return StatusReport(
        state=state, url=url, checks=told.checks, pools=told.pools, broken=told.broken
    )


def show_status(found: StatusReport) -> None:
    """Print a look for people."""
    tree = found.tree or {}
    where = f" at {found.url}" if found.url else ""
    process = f" (pid {tree['pid']}, up {_age(tree.get('started_at'))})" if "pid" in tree else ""
    show(f"{paint(found.state, RED if found.state == 'not running' else '1')}{where}{process}")
    if found.state == "not running":
        info("`skipper up` starts it.")
    for line in found.checks:
        if line.startswith("[-]"):
            show(paint(f"  {_without_list(line) if found.broken else line}", RED))
    if children := tree.get("children"):
        show("")
        rows = [
            [child.get(name) for name in ("name", "state", "pid", "restarts", "reason")]
            for child in children
        ]
        show_table(("COMPONENT", "STATE", "PID", "RESTARTS", "REASON"), rows)
    if found.pools:
        show("")
        show_table(
            ("POOL", "STATE", "DEVICE", "SLOTS", "TASK SLOTS", "BUSY", "QUEUED", "INSTANCES"),
            [_pool_row(pool) for pool in found.pools],
        )
    if found.broken:
        show("")
    for item in found.broken:
        show(broken_line(item))


def _without_list(check: str) -> str:
    """A line of ``/readyz``, without the broken files that are listed below it."""
    head, *reasons = check.split("not loaded: ")
    return f"{head.rstrip('; ')} not loaded: see below" if reasons else check


def _find(project: Path | None, url: str | None) -> StatusReport:
    from skipper.settings.environment import client_environment
    from skipper.settings.loading import load_sections

    environment_url, key = client_environment()
    if url or (environment_url and project is None):
        return status_at(Target(url=url or environment_url or "", key=key))
    return status_of(load_sections(project, "gateway"))


def _query(where: Target) -> _Answers:
    """Lines of /readyz, the pools and broken files as far as they can be had."""
    from skipper.client.flows import peek

    pools: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    try:
        with where.client() as client:
            reply = client.run(peek("/readyz", verbose="1"))
            with contextlib.suppress(UnavailableError):
                pools = client.get("/v1/pools")["items"]
                broken = client.get("/v1/functions")["broken"]
    except UnavailableError:
        return _Answers()
    lines = reply.content.decode("utf-8", "replace").splitlines()
    checks = tuple(line for line in lines if line.startswith("["))
    return _Answers(checks, tuple(pools), tuple(broken), reply.status == 200)


def _exit_code(found: StatusReport, waited: bool) -> Exit:
    if found.state == "ready":
        return Exit.OK
    if waited:
        return Exit.TIMED_OUT
    return Exit.NOT_RUNNING if found.state == "not running" else Exit.FAILED


def _pool_row(pool: dict[str, Any]) -> list[Any]:
    state = "ready" if pool.get("reachable", True) else "not reachable"
    devices = ", ".join(str(device["name"]) for device in pool.get("devices") or ())
    numbers = (pool.get(name) for name in ("slots", "task_slots", "busy", "queued"))
    instances = len(pool.get("instances") or ())
    return [pool.get("pool"), state, devices or None, *numbers, instances]


def _age(started_at: float | None) -> str:
    return "?" if started_at is None else span(time.time() - started_at)
