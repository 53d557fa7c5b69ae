"""``skipper tasks``: list, show, watch, cancel, retry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipper.cli.follow import followed
from skipper.cli.output import info, local, neutral, show, show_json, show_members, show_table
from skipper.cli.results import Output, show_result, wanted
from skipper.cli.target import Json, Project, Url, target
from skipper.cli.verbs import ListByDefault
from skipper.exits import Exit

if TYPE_CHECKING:
    from skipper.client import Client

app = typer.Typer(cls=ListByDefault, help="List, show, watch, cancel and retry tasks.")

_TIMES = ("created_at", "available_at", "expires_at", "started_at", "finished_at", "deadline_at")

Id = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]


@app.command("list")
def list_(
    *,
    function: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only tasks of this function.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only tasks in this state.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only tasks that this schedule made.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 20,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Go on where the last page ended.")
    ] = None,
    json_: Json = False,
    project: Project = None,
    url: Url = None,
) -> None:
    """List tasks, the newest first.

    \b
    Examples:
      skipper tasks
      skipper tasks list --state crashed --json
      skipper tasks list --function boston.train --limit 5
    """
    _check_state(state)
    with target(project, url).client() as client:
        page = client.get(
            "/v1/tasks",
            function=function,
            state=state,
            schedule=schedule,
            limit=limit,
            cursor=cursor,
        )
    if json_:
        show_json(page)
        return
    header = ("ID", "FUNCTION", "STATE", "ATTEMPT", "CREATED", "TOOK")
    show_table(header, [_row(task) for task in page["items"]])
    if page.get("next"):
        info(f"There are more: --cursor {page['next']}")


@app.command("show")
def show_one(task_id: Id, json_: Json = False, project: Project = None, url: Url = None) -> None:
    """Show one task: state, times, progress, error, and each of its attempts.

    \b
    Example:
      skipper tasks show 3b0tjrcjh43k409qcsjtggd587
    """
    with target(project, url).client() as client:
        handle = client.task(task_id)
        task, attempts = handle.status(), handle.attempts()
    if json_:
        show_json(task | {"attempts": attempts})
        return
    if checkpoint := task.get("checkpoint"):
        task["checkpoint"] = _checkpoint(checkpoint)
    if file := task.get("file"):
        task["file"] = _file(file)
    error = task.pop("error", None) or {}
    show_members((name, local(task[name]) if name in _TIMES else task[name]) for name in task)
    if error:
        show_members([("error", _reason(error))])
        if trace := error.get("traceback") or _logged_traceback(task_id, project, url):
            show(neutral(str(trace).rstrip()))
    if attempts:
        show("")
        header = ("ATTEMPT", "OUTCOME", "STARTED", "TOOK", "INSTANCE", "CODE", "MODEL", "ERROR")
        show_table(header, map(_attempt_row, attempts))


def _file(file: dict[str, Any]) -> str:
    name = f"{file['name']}, " if file["name"] else ""
    return f"{name}{file['media_type']}, {file['size'] / 1e6:.3g} MB, sha256 {file['sha256']}"


def _checkpoint(checkpoint: dict[str, Any]) -> str:
    size = checkpoint["size"] / 1e6
    return f"{checkpoint['number']}, {size:.3g} MB, {local(checkpoint['at'])}"


@app.command()
def watch(
    task_id: Id,
    *,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="Give up after this many seconds.")
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Every event as a JSON object on a line of its own.")
    ] = False,
    output: Output = None,
    project: Project = None,
    url: Url = None,
) -> None:
    """Follow a task to its end: states, progress, metrics and logs as they come, then its value.

    What has happened so far comes first. Ends as `skipper call` would have, with its exit codes.
    Ctrl-C stops following; the task goes on.

    \b
    Examples:
      skipper tasks watch 3b0arnnc3gjk0ckto7avdbu64t
      skipper tasks watch 3b0arnnc3gjk0ckto7avdbu64t --json
    """
    from skipper.cli.progress import JsonProgress, display

    shown, how = JsonProgress() if json_ else display(), wanted(output, None)
    reply = followed(task_id, target(project, url), shown, timeout, how)
    if not json_ or reply.saved is not None:
        show_result(reply, output)


@app.command()
def cancel(task_id: Id, project: Project = None, url: Url = None) -> None:
    """Cancel a task, queued or running.

    Exits 1 when it had already ended: what has ended stays as it is.

    \b
    Example:
      skipper tasks cancel 3b0tjrcjh43k409qcsjtggd587
    """
    with target(project, url).client() as client:
        handle = client.task(task_id)
        is_cancelled = handle.cancel()
        state = handle.status()["state"]
    if not is_cancelled:
        info(f"Task {task_id} had already ended: {state}.")
        raise typer.Exit(Exit.FAILED)
    info(f"Task {task_id} is {state if state == 'cancelled' else 'being cancelled'}.")


@app.command()
def retry(
    task_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="The tasks' ids.")
    ] = None,
    *,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="All tasks that have ended so.")
    ] = None,
    function: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of those, only this function's.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    project: Project = None,
    url: Url = None,
) -> None:
    """Run the functions of ended tasks again on the same input, as new tasks; print their ids.

    \b
    Examples:
      skipper tasks retry 3b0tjrcjh43k409qcsjtggd587
      skipper tasks retry --state crashed --yes
      skipper tasks retry --state failed --function boston.train
    """
    if bool(task_ids) == (state is not None) or (function and state is None):
        raise typer.BadParameter("name the tasks by their ids, or all of a --state; not both.")
    _check_state(state, only_ended=True)
    with target(project, url).client() as client:
        ids = task_ids or list(_ids_in(client, str(state), function))
        if not task_ids and not (yes or _is_wanted(f"Run {len(ids)} {state} tasks again?", ids)):
            return
        for task_id in ids:
            show(client.task(task_id).retry().id)


def _ids_in(client: Client, state: str, function: str | None) -> Iterator[str]:
    """Every task in a state, the oldest first: so they start again in the order in which they did.

    All are listed before any is run again.
    """
    found: list[str] = []
    cursor = None
    while True:
        page = client.get("/v1/tasks", function=function, state=state, limit=200, cursor=cursor)
        found += (task["id"] for task in page["items"])
        cursor = page.get("next")
        if not cursor:
            return reversed(found)


def _is_wanted(question: str, ids: list[str]) -> bool:
    """Ask the person at the terminal. A script must have said ``--yes``."""
    if not ids:
        info("There are none.")
        return False
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{question} Nobody is here to answer: say --yes.")
    return typer.confirm(question, err=True)


def _check_state(state: str | None, *, only_ended: bool = False) -> None:
    from skipper.task import TERMINAL, State

    known = TERMINAL if only_ended else tuple(State)
    if state is not None and state not in known:
        raise typer.BadParameter(f"--state {state!r}: write one of {', '.join(known)}.")


def _row(task: dict[str, Any]) -> list[Any]:
    attempts = f"{task.get('attempt')}/{task.get('max_attempts')}"
    return [
        task["id"],
        task["function"],
        task["state"],
        attempts,
        local(task.get("created_at")),
        _took(task.get("started_at"), task.get("finished_at")),
    ]


def _attempt_row(attempt: dict[str, Any]) -> list[Any]:
    return [
        attempt["number"],
        attempt.get("outcome") or "running",
        local(attempt.get("started_at")),
        _took(attempt.get("started_at"), attempt.get("ended_at")),
        attempt.get("instance"),
        attempt.get("code"),
        attempt.get("model"),
        _reason(attempt.get("error") or {}),
    ]


def _reason(error: dict[str, Any]) -> str | None:
    return error.get("detail") or error.get("title")


def _logged_traceback(task_id: str, project: Path | None, url: str | None) -> str:
    """That of the last attempt in the log of the project here, since others may not see it.

    Empty where it is another project's task, ran on another machine, or was long ago.
    """
    from skipper.cli.logs import failures_of

    if url is not None:
        return ""
    for record in reversed(failures_of(task_id, project)):
        if same := record.get("same_as"):
            return f"at {record.get('at')}, with the traceback that is logged of {same}"
        if trace := record.get("traceback"):
            return str(trace)
    return ""


def _took(started: str | None, finished: str | None) -> str | None:
    if not started or not finished:
        return None
    seconds = (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
