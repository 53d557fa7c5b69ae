"""``skipper config`` and ``skipper version``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from skipper.cli.output import show, show_json, show_table
from skipper.cli.target import Json, Project

app = typer.Typer(help="Show the settings.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Show the settings."""


@app.command("show")
def show_settings(
    origin: Annotated[
        bool, typer.Option("--origin", help="Also where each value came from.")
    ] = False,
    json_: Json = False,
    project: Project = None,
) -> None:
    """Show every setting; passwords and keys are masked.

    \b
    Examples:
      skipper config show --origin
      SKIPPER_GATEWAY_PORT=9000 skipper config show --json
    """
    from skipper.settings.loading import load
    from skipper.settings.schema import leaves

    settings, origins = load(project)
    values = dict(leaves(settings))
    if json_:
        show_json({name: _entry(values[name], origins[name], origin) for name in values})
        return
    header = ("SETTING", "VALUE", "ORIGIN")[: 3 if origin else 2]
    rows = [(name, json.dumps(values[name]), origins[name])[: len(header)] for name in values]
    show_table(header, rows)


def version(json_: Json = False) -> None:
    """Show the version.

    \b
    Example:
      skipper version
    """
    import platform

    import skipper

    if json_:
        show_json({"skipper": skipper.__version__, "python": platform.python_version()})
    else:
        show(f"skipper {skipper.__version__} (Python {platform.python_version()})")


def _entry(value: Any, origin: str, with_origin: bool) -> Any:
    return {"value": value, "origin": origin} if with_origin else value
