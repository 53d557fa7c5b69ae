"""``skipper models``: what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skipper.cli.functions import Name
from skipper.cli.output import info, show_json, show_table
from skipper.cli.target import Json, Project, Url, target
from skipper.cli.tasks import Id
from skipper.cli.verbs import ListByDefault

models = typer.Typer(cls=ListByDefault, help="List and show stored models.")


@models.command("list")
def list_models(json_: Json = False, project: Project = None, url: Url = None) -> None:
    """List the stored models, each with its newest version.

    \b
    Examples:
      skipper models
      skipper models list --json
    """
    with target(project, url).client() as client:
        items = client.models()
    if json_:
        show_json({"items": items})
    else:
        _show_versions(items)


@models.command("show")
def show_model(name: Name, json_: Json = False, project: Project = None, url: Url = None) -> None:
    """Show one model's versions, the newest first.

    \b
    Example:
      skipper models show boston
    """
    from skipper.client.flows import model_path

    with target(project, url).client() as client:
        document = client.get(model_path(name))
    if json_:
        show_json(document)
    else:
        _show_versions(document["items"])


@models.command("rescue")
def rescue_model(
    task_id: Id,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; default: rescue-TASK.tar."),
    ] = None,
    project: Project = None,
    url: Url = None,
) -> None:
    """Fetch what a failed task has trained and nobody could save or load, as a tar.

    \b
    Example:
      skipper models rescue 01k3v0c5e8qw9t2r4y6u8i0p1a
    """
    path = Path(output or f"rescue-{task_id}.tar").expanduser()
    if path.is_dir() or not path.parent.is_dir():
        raise typer.BadParameter(f"-o {path}: no file can be written there.")
    with target(project, url).client() as client:
        client.rescue(task_id, path)
    info(f"{path}: {path.stat().st_size / (1 << 20):.1f} MiB")


def _show_versions(items: list[dict[str, Any]]) -> None:
    names = ("name", "version", "format", "metrics", "created_at", "task_id")
    header = ("NAME", "VERSION", "FORMAT", "METRICS", "CREATED", "TASK")
    show_table(header, [[item.get(name) for name in names] for item in items])
