"""``skipper files``: what is uploaded once and named in calls."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from skipper.cli.output import info, local, show, show_json, show_members
from skipper.cli.results import STANDARD_OUTPUT, writable
from skipper.cli.target import Json, Project, Url, target

app = typer.Typer(help="Upload, show, download and remove files.", no_args_is_help=True)

FileId = Annotated[str, typer.Argument(metavar="ID", help="What upload has printed: file-…")]


@app.command()
def upload(
    path: Annotated[str, typer.Argument(metavar="FILE|-", help="The file; - reads stdin.")],
    *,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to call it; default: the file's name.")
    ] = None,
    media_type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Its media type, as image/png.")
    ] = None,
    json_: Json = False,
    project: Project = None,
    url: Url = None,
) -> None:
    """Have the gateway keep a file, and print its id, which calls take in its place.

    \b
    Examples:
      id=$(skipper files upload talk.wav)
      skipper call media.transcribe -p recording=$id
      tar c photos | skipper files upload - --name photos.tar
    """
    source: Any = sys.stdin.buffer if path == STANDARD_OUTPUT else Path(path).expanduser()
    if isinstance(source, Path) and not source.is_file():
        what = "is a directory" if source.is_dir() else "No such file or directory"
        raise typer.BadParameter(f"{path}: {what}.")
    with target(project, url).client() as client:
        record = client.upload(source, name=name, media_type=media_type)
    if json_:
        show_json(record)
    else:
        show(str(record["id"]))


@app.command("show")
def show_file(
    file_id: FileId, json_: Json = False, project: Project = None, url: Url = None
) -> None:
    """Show what is known of an uploaded file: its size, its type, and when it expires.

    \b
    Example:
      skipper files show file-3f2a9c4e5d6b7a8091a2b3c4d5e6f708
    """
    with target(project, url).client() as client:
        record = client.file(file_id)
    if json_:
        show_json(record)
        return
    times = ("created_at", "expires_at")
    show_members((name, local(record[name]) if name in times else record[name]) for name in record)


@app.command()
def download(
    file_id: FileId,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE|-", help="Where to; - to stdout.")
    ],
    project: Project = None,
    url: Url = None,
) -> None:
    """Write an uploaded file to a file, which is there once it is whole.

    \b
    Example:
      skipper files download file-3f2a9c4e5d6b7a8091a2b3c4d5e6f708 -o talk.wav
    """
    from skipper.client import flows
    from skipper.client.messages import Outlet

    with target(project, url).client() as client:
        if output == STANDARD_OUTPUT:
            client.run(flows.download(file_id, Outlet(sys.stdout.buffer)))
            return
        client.download(file_id, writable(output))


@app.command()
def rm(
    file_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The files' ids.")],
    project: Project = None,
    url: Url = None,
) -> None:
    """Forget uploaded files; tasks that were given one keep it.

    \b
    Example:
      skipper files rm file-3f2a9c4e5d6b7a8091a2b3c4d5e6f708
    """
    with target(project, url).client() as client:
        for file_id in file_ids:
            client.delete_file(file_id)
    info(f"{len(file_ids)} forgotten.")
