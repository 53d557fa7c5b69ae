"""``skipper webhooks``: list, test."""

from __future__ import annotations

from typing import Annotated

import typer

from skipper.cli.output import info, show_json, show_table
from skipper.cli.target import Json, Project, Url, target
from skipper.cli.verbs import ListByDefault
from skipper.exits import Exit

app = typer.Typer(cls=ListByDefault, help="List and try webhooks.")

TEST_S = 120.0
"""How long a ping may be on its way: it may wait for a slot."""


@app.command("list")
def list_(json_: Json = False, project: Project = None, url: Url = None) -> None:
    """List the webhooks of skipper.toml: who is told of which ends of tasks.

    \b
    Example:
      skipper webhooks
    """
    with target(project, url).client() as client:
        document = client.get("/v1/webhooks")
    if json_:
        show_json(document)
        return
    rows = [
        [item["name"], item["origin"], ", ".join(item["events"]), ", ".join(item["functions"])]
        for item in document["items"]
    ]
    show_table(("NAME", "TO", "EVENTS", "FUNCTIONS"), rows)


@app.command("test")
def try_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The webhook's name.")],
    project: Project = None,
    url: Url = None,
) -> None:
    """Send a webhook a ping, and say whether it arrived.

    Exits 1 when it did not.

    \b
    Example:
      skipper webhooks test ops
    """
    from skipper.client import flows
    from skipper.client.messages import Deadline

    with target(project, url).client() as client:
        task = client.run(flows.test_webhook(name))
        task = client.run(flows.ended(task["id"], Deadline(TEST_S)))
    if task["state"] != "succeeded":
        error = task["error"] or {}
        info(f"The ping did not arrive: {error.get('detail') or task['state']}")
        raise typer.Exit(Exit.FAILED)
    info(f"The ping arrived at {name}.")
