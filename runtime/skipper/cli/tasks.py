"""``skipper tasks``: list, show, cancel."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from skipper.cli.exits import Exit
from skipper.cli.output import neutral, say, show, show_json, show_members, show_table
from skipper.cli.target import Json, Project, Url, target
from skipper.cli.verbs import ListByDefault

app = typer.Typer(cls=ListByDefault, help="List, show and cancel tasks.")

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
        page = client.get("/v1/tasks", function=function, state=state, limit=limit, cursor=cursor)
    if json_:
        show_json(page)
        return
    header = ("ID", "FUNCTION", "STATE", "ATTEMPT", "CREATED", "TOOK")
    show_table(header, [_row(task) for task in page["items"]])
    if page.get("next"):
        say(f"There are more: --cursor {page['next']}")


@app.command("show")
def show_one(task_id: Id, json_: Json = False, project: Project = None, url: Url = None) -> None:
    """Show one task: state, times, progress, error.

    \b
    Example:
      skipper tasks show 3b0tjrcjh43k409qcsjtggd587
    """
    with target(project, url).client() as client:
        task = client.task(task_id).status()
    if json_:
        show_json(task)
        return
    times = ("created_at", "started_at", "finished_at", "deadline_at")
    error = task.pop("error", None) or {}
    show_members((name, _local(task[name]) if name in times else task[name]) for name in task)
    if error:
        show_members([("error", error.get("detail") or error.get("title"))])
        if trace := error.get("traceback"):
            show(neutral(str(trace).rstrip()))


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
        say(f"Task {task_id} had already ended: {state}.")
        raise typer.Exit(Exit.FAILED)
    say(f"Task {task_id} is {state if state == 'cancelled' else 'being cancelled'}.")


def _check_state(state: str | None) -> None:
    from skipper.task import State

    if state is not None and state not in list(State):
        raise typer.BadParameter(f"--state {state!r}: write one of {', '.join(State)}.")


def _row(task: dict[str, Any]) -> list[Any]:
    attempts = f"{task.get('attempt')}/{task.get('max_attempts')}"
    return [
        task["id"],
        task["function"],
        task["state"],
        attempts,
        _local(task.get("created_at")),
        _took(task),
    ]


def _local(time: str | None) -> str | None:
    """An RFC 3339 time as a clock here shows it."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S") if time else None


def _took(task: dict[str, Any]) -> str | None:
    started, finished = task.get("started_at"), task.get("finished_at")
    if not started or not finished:
        return None
    seconds = (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
