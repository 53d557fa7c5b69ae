"""The verbs, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from skipper.cli import (
    config,
    deployments,
    files,
    functions,
    models,
    schedules,
    tasks,
    up,
    webhooks,
)
from skipper.cli.call import call
from skipper.cli.check import check
from skipper.cli.logs import logs
from skipper.cli.status import down, status
from skipper.cli.verbs import Verbs

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,  # importing rich for the help alone would double its time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExit codes: 0 ok, 1 failed, 2 usage or input, 3 settings, 4 not running,"
    "\n5 not found, 6 timed out, 7 port or lock taken, 8 unauthorised, 9 broker or database,\n"
    "10 folder not writable, 130 Ctrl-C.",
)


def _version(is_asked: bool) -> None:
    if is_asked:
        config.version()
        raise typer.Exit


@app.callback()
def skipper(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """A function runtime for machine learning: files in functions/, called over REST.

    \b
    Start here:
      skipper up
      skipper call boston.predict -p rm=6.5
    """


@app.command(
    "up",
    help=up.SUMMARY,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def up_(context: typer.Context) -> None:
    """Hand everything to ``skipper up``'s own parser."""
    raise typer.Exit(up.main(context.args))


app.command()(down)
app.command()(status)
app.command()(call)
app.command()(check)
app.add_typer(functions.functions, name="functions")
app.add_typer(tasks.app, name="tasks")
app.add_typer(files.app, name="files")
app.add_typer(schedules.app, name="schedules")
app.command()(logs)
for verb in (deployments.promote, deployments.rollback, deployments.alias, deployments.gc):
    models.models.command()(verb)
app.add_typer(models.models, name="models")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(config.app, name="config")
app.command()(config.version)
