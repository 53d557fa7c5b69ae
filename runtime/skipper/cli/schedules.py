"""``skipper schedules``: list, show, run, pause, resume."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from skipper.cli.output import info, local, show, show_json, show_members, show_table, span
from skipper.cli.target import Json, Project, Url, target
from skipper.cli.verbs import ListByDefault

app = typer.Typer(cls=ListByDefault, help="List, show, run, pause and resume schedules.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


@app.command("list")
def list_(json_: Json = False, project: Project = None, url: Url = None) -> None:
    """List schedules: what runs when, when next, when last.

    \b
    Examples:
      skipper schedules
      skipper schedules list --json | jq -r '.items[].next_at'
    """
    with target(project, url).client() as client:
        items = client.schedules()
    if json_:
        show_json({"items": items})
        return
    now = datetime.now(UTC)
    header = ("NAME", "FUNCTION", "CRON", "TIMEZONE", "STATE", "NEXT", "LAST")
    show_table(header, [_row(schedule, now) for schedule in items])
    for schedule in items:
        if schedule["state"] == "unserved":
            info(f"{schedule['name']} waits: no pool serves {schedule['function']}.")


@app.command("show")
def show_one(name: Name, json_: Json = False, project: Project = None, url: Url = None) -> None:
    """Show one schedule and the last tasks that it made.

    \b
    Example:
      skipper schedules show boston.train
    """
    from skipper.client.flows import schedule_path

    with target(project, url).client() as client:
        schedule = client.get(schedule_path(name))
        tasks = [] if json_ else client.get("/v1/tasks", schedule=name, limit=5)["items"]
    if json_:
        show_json(schedule)
        return
    now = datetime.now(UTC)
    for member in ("next_at", "last_at"):
        schedule[member] = _when(schedule[member], now)
    show_members(schedule.items())
    if tasks:
        show("")
        rows = [[task["id"], task["state"], local(task["created_at"])] for task in tasks]
        show_table(("TASK", "STATE", "CREATED"), rows)


@app.command()
def run(name: Name, json_: Json = False, project: Project = None, url: Url = None) -> None:
    """Run what a schedule runs, now, and print the task's id. Its times stay as they are.

    \b
    Example:
      skipper logs -f --task $(skipper schedules run boston.train)
    """
    where = target(project, url)
    with where.client() as client:
        handle = client.run_schedule(name)
        if json_:
            show_json(handle.status())
        else:
            show(handle.id)


@app.command()
def pause(name: Name, json_: Json = False, project: Project = None, url: Url = None) -> None:
    """Let a schedule rest. That outlives restarts and new code.

    \b
    Example:
      skipper schedules pause boston.train
    """
    where = target(project, url)
    with where.client() as client:
        schedule = client.pause_schedule(name)
    if json_:
        show_json(schedule)
    else:
        info(f"{name} rests until `skipper schedules resume{where.flags} {name}`.")


@app.command()
def resume(name: Name, json_: Json = False, project: Project = None, url: Url = None) -> None:
    """Have a schedule go on with its next time. What was due while it rested is left out.

    \b
    Example:
      skipper schedules resume boston.train
    """
    with target(project, url).client() as client:
        schedule = client.resume_schedule(name)
    if json_:
        show_json(schedule)
    else:
        info(f"{name} is active: {schedule['cron']} ({schedule['timezone']}).")


def _row(schedule: dict[str, Any], now: datetime) -> list[Any]:
    names = ("name", "function", "cron", "timezone", "state")
    times = (_in_words(schedule.get(name), now) for name in ("next_at", "last_at"))
    return [*(schedule.get(name) for name in names), *times]


def _when(time: str | None, now: datetime) -> str | None:
    return f"{local(time)}, {_in_words(time, now)}" if time else None


def _in_words(time: str | None, now: datetime) -> str | None:
    """How far away: ``in 3 h``, ``2 d ago``."""
    if not time:
        return None
    seconds = (datetime.fromisoformat(time) - now).total_seconds()
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"
