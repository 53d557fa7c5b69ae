"""``skipper check``: whether the project's files load, and what they would change for callers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipper.cli.functions import broken_line
from skipper.cli.output import RED, info, neutral, paint, show, show_json
from skipper.cli.target import Json, Project, Target
from skipper.errors import DefinitionError
from skipper.exits import Exit

if TYPE_CHECKING:
    from skipper.compatibility import Change
    from skipper.pool.inventory import Inventory


def check(
    *,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="URL", help="Compare with what runs at this gateway."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Tell also what breaks no caller.")
    ] = False,
    json_: Json = False,
    project: Project = None,
) -> None:
    """Read the project's files, start nothing, and say what is wrong with them.

    With --against also what would break the callers of the project that runs there. Ends with 3
    where a file does not load or a caller would break.

    \b
    Examples:
      skipper check
      skipper check --against https://houses.example --verbose
    """
    found = _inventory(project)
    told = list(_changes(found, against)) if against else []
    shown = [change for change in told if change.breaks or verbose]
    if json_:
        broken = [item.model_dump(mode="json") for item in found.broken]
        changes = [change._asdict() for change in shown]
        show_json({"functions": len(found.specs), "broken": broken, "changes": changes})
    else:
        _tell(found, shown, is_compared=bool(against))
    if found.broken or any(change.breaks for change in told):
        raise typer.Exit(Exit.INVALID)


def _inventory(project: Any) -> Inventory:
    import asyncio

    from skipper.pool import inventory
    from skipper.settings.loading import load

    settings, _ = load(project)
    try:
        return asyncio.run(inventory.take(settings))
    except OSError as error:
        raise DefinitionError(f"The project cannot be read: {error}.") from None


def _changes(found: Inventory, url: str) -> Iterator[Change]:
    """What callers of the functions at ``url`` would meet."""
    from skipper.compatibility import Interface, changes, gone
    from skipper.spec import is_private

    with Target(url=url).client() as client:
        served = client.get("/v1/functions")["items"]
    fresh = {spec.name: spec for spec in found.specs}
    for document in served:
        name = document["name"]
        if is_private(name):  # its callers are the project's own, and change with it
            continue
        if (spec := fresh.get(name)) is not None:
            new = Interface.of(spec.model_dump(mode="json"))
            yield from changes(name, Interface.of(document), new)
        elif found.is_known(name):
            yield gone(name)


def _tell(found: Inventory, shown: list[Change], *, is_compared: bool) -> None:
    for item in found.broken:
        show(broken_line(item.model_dump()))
    for change in shown:
        line = f"{'✗' if change.breaks else '·'} {neutral(str(change))}"
        show(paint(line, RED if change.breaks else ""))
    breaking = sum(change.breaks for change in shown)
    compared = f", {breaking} changes that break callers" if is_compared else ""
    info(f"{len(found.specs)} functions read, {len(found.broken)} mistakes{compared}.")
