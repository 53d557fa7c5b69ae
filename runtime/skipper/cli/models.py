"""``skipper models``: what is stored, how two versions differ, and which of them serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skipper import selectors
from skipper.cli.output import info, local, show, show_json, show_members, show_table
from skipper.cli.results import writable
from skipper.cli.target import Json, Project, Url, target
from skipper.cli.tasks import Id
from skipper.cli.verbs import ListByDefault
from skipper.errors import DefinitionError
from skipper.selectors import Selector

models = typer.Typer(
    cls=ListByDefault, help="List, show and compare models, and change which version serves."
)

ModelAt = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@VERSION]", help="A model, or a version: boston, boston@7, boston@best."
    ),
]


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
def show_model(
    model: ModelAt, json_: Json = False, project: Project = None, url: Url = None
) -> None:
    """Show which versions of a model serve and which there are; or one version in full.

    \b
    Examples:
      skipper models show boston
      skipper models show boston@candidate
      skipper models show boston@7 --json
    """
    from skipper.client.flows import model_path

    selector = selector_of(model)
    with target(project, url).client() as client:
        if "@" in model:
            _show_version(client.model_version(selector.name, selector.at), as_json=json_)
            return
        document = client.get(model_path(selector.name))
        record = client.deployment(selector.name)
    if json_:
        show_json(document | {"deployment": record})
        return
    show_record(record)
    show("")
    _show_versions(document["items"])


@models.command("diff")
def diff(
    one: ModelAt, other: ModelAt, json_: Json = False, project: Project = None, url: Url = None
) -> None:
    """Show in what two versions differ: metrics, parameters, code, files.

    \b
    Examples:
      skipper models diff boston boston@candidate
      skipper models diff boston@7 boston@9 --json
    """
    from skipper.cli.model_diff import differences

    with target(project, url).client() as client:
        found = [
            client.model_version(each.name, each.at) for each in map(selector_of, (one, other))
        ]
    rows = differences(*found)
    if json_:
        show_json({"items": [row._asdict() for row in rows]})
        return
    if not rows:
        info("They are the same but for their numbers.")
        return
    names = [f"{each['name']}@{each['version']}".upper() for each in found]
    show_table(("WHAT", *names, "CHANGE"), rows)


def selector_of(text: str) -> Selector:
    """What a command was given. Raises typer's error for what names no version."""
    try:
        return selectors.parse(text)
    except DefinitionError as error:
        raise typer.BadParameter(str(error)) from None


def show_record(record: dict[str, Any]) -> None:
    """A deployment record, for a person."""
    candidate = record["candidate"]
    shown = f"{candidate} ({record['percent']:g} % of calls)" if candidate is not None else None
    names = ("name", "revision", "production", "previous")
    members = {name: record[name] for name in names} | {"candidate": shown}
    members |= {"shadow": record["shadow"], "aliases": record["aliases"] or None}
    changed = {"since": local(record["at"]), "by": record["by"], "why": record["why"]}
    show_members((members | changed).items())


def _show_version(version: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(version)
        return
    gate, files = version.pop("gate"), version.pop("files")
    version["created_at"] = local(version["created_at"])
    show_members((name, value) for name, value in version.items() if value not in ([], {}))
    if gate:
        show("")
        _show_gate(gate)
    if files:
        show("")
        show_table(("FILE", "BYTES", "SHA-256"), [[*each.values()] for each in files])


def _show_gate(gate: dict[str, Any]) -> None:
    against = f"version {gate['against']}" if gate["against"] else "nothing in production yet"
    verdict = "passed" if gate["passed"] else f"kept out: {gate['why']}"
    members = {"gate": verdict, "against": against, "asked": gate.get("function")}
    if forced := gate.get("forced"):
        members["forced"] = f"by {forced['by']}: {forced['why']}"
    show_members(members.items())
    if checks := gate.get("checks"):
        names = ("metric", "rule", "bound", "value", "production", "ratio", "passed")
        show("")
        rows = [[check.get(name) for name in names] for check in checks]
        show_table([name.upper() for name in names], rows)


@models.command("export")
def export_model(
    model: ModelAt,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; default: NAME-VERSION.tar."),
    ] = None,
    project: Project = None,
    url: Url = None,
) -> None:
    """Write a version to one file: what is known of it, and its files, as a tar.

    \b
    Examples:
      skipper models export boston
      skipper models export boston@7 -o boston.tar && tar tf boston.tar
    """
    from skipper.cli.transfers import ShownFile, transfer
    from skipper.client import model_flows

    selector = selector_of(model)
    with target(project, url).client() as client:
        version = client.model_version(selector.name, selector.at)
        path = writable(output or f"{version['name']}-{version['version']}.tar")
        with transfer(path.name, version["size"]) as at:
            wanted = ShownFile(path, at)
            client.run(model_flows.export(selector.name, version["version"], wanted))
    info(f"{path}: {path.stat().st_size / (1 << 20):.1f} MiB")


@models.command("import")
def import_model(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="What export has written.", dir_okay=False)
    ],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Of which model; default: its own.")
    ] = None,
    json_: Json = False,
    project: Project = None,
    url: Url = None,
) -> None:
    """Take in a version that was exported elsewhere; it serves once it is promoted.

    \b
    Examples:
      skipper models import boston-7.tar
      skipper models import boston-7.tar --as boston_eu && skipper models promote boston_eu@latest
    """
    from skipper.cli.transfers import ShownSource, transfer

    path = path.expanduser()
    if not path.is_file():
        raise typer.BadParameter(f"{path}: No such file.")
    with (
        target(project, url).client() as client,
        path.open("rb") as file,
        transfer(path.name, path.stat().st_size) as shown,
    ):
        made = client.import_model(ShownSource(file, shown), name=name)
    if json_:
        show_json(made)
        return
    at = f"{made['name']}@{made['version']}"
    info(f"{at}: stored. `skipper models promote {at}` puts it in production.")


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
    from skipper.cli.transfers import ShownFile, transfer
    from skipper.client import model_flows

    path = writable(output or f"rescue-{task_id}.tar")
    with target(project, url).client() as client, transfer(path.name, None) as at:
        client.run(model_flows.rescue(task_id, ShownFile(path, at)))
    info(f"{path}: {path.stat().st_size / (1 << 20):.1f} MiB")


def _show_versions(items: list[dict[str, Any]]) -> None:
    names = ("name", "version", "format", "metrics", "created_at", "task_id", "state")
    header = ("NAME", "VERSION", "FORMAT", "METRICS", "CREATED", "TASK", "STATE")
    show_table(header, [[item.get(name) for name in names] for item in items])
