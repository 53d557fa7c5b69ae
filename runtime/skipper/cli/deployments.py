"""``skipper models``: the verbs that change which version of a model serves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from skipper.cli.models import ModelAt, selector_of, show_record
from skipper.cli.output import info, neutral, show_json, show_table
from skipper.cli.target import Json, Project, Target, Url, target
from skipper.errors import ConflictError, KeptOutError, UnfitError

Why = Annotated[
    str | None, typer.Option("--why", metavar="TEXT", help="A reason, kept with the record.")
]
Revision = Annotated[
    int | None,
    typer.Option(
        "--revision", metavar="N", min=0, help="Only if the record is still this one: see show."
    ),
]
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="A model.")]


def promote(
    model: ModelAt,
    *,
    percent: Annotated[
        float | None,
        typer.Option(
            "--percent", min=0, max=100, help="Answer so much of the calls only: a canary."
        ),
    ] = None,
    why: Why = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Even if its gate keeps it out, or it did not load; needs --why."
        ),
    ] = False,
    revision: Revision = None,
    json_: Json = False,
    project: Project = None,
    url: Url = None,
) -> None:
    """Put a version in production: calls sent from then on are answered by it.

    \b
    Examples:
      skipper models promote boston@9 --why "June data"
      skipper models promote boston@9 --percent 10     # a canary; then, without it:
      skipper models promote boston@candidate
      skipper models promote boston@9 --force --why "the metric is wrong"
    """
    selector, where = selector_of(model), target(project, url)
    if "@" not in model:
        raise typer.BadParameter(f"say which version of {model}: {model}@9, {model}@latest.")
    if force and not why:
        raise typer.BadParameter("--force needs --why: say why its gate is wrong.")
    with where.client() as client, _explained(where, selector.name):
        record = client.promote(
            selector.name, selector.at, percent=percent, why=why, force=force, follows=revision
        )
    _tell(record, as_json=json_)


def rollback(
    name: ModelName,
    *,
    why: Why = None,
    revision: Revision = None,
    json_: Json = False,
    project: Project = None,
    url: Url = None,
) -> None:
    """Put the version back in production that was there before, and end a canary.

    \b
    Example:
      skipper models rollback boston --why "drifts since noon"
    """
    where = target(project, url)
    with where.client() as client, _explained(where, name):
        record = client.roll_back(selector_of(name).name, why=why, follows=revision)
    _tell(record, as_json=json_)


def alias(
    model: ModelAt,
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="A word of your own.")],
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Take the alias away.")] = False,
    json_: Json = False,
    project: Project = None,
    url: Url = None,
) -> None:
    """Give a version a name of your own, which skipper.Loaded("boston@best") follows.

    \b
    Examples:
      skipper models alias boston@7 best
      skipper models alias boston best --remove
    """
    selector, where = selector_of(model), target(project, url)
    with where.client() as client, _explained(where, selector.name):
        if remove:
            record = client.delete_alias(selector.name, name)
        else:
            record = client.set_alias(selector.name, name, selector.at)
    _tell(record, as_json=json_)


def gc(
    name: ModelName,
    *,
    keep_versions: Annotated[
        int | None, typer.Option("--keep-versions", min=1, metavar="N", help="Leave the newest N.")
    ] = None,
    keep_days: Annotated[
        float | None, typer.Option("--keep-days", min=0, metavar="DAYS", help="Leave the younger.")
    ] = None,
    trial: Annotated[
        bool, typer.Option("--trial", help="Say what would go, and remove nothing.")
    ] = False,
    json_: Json = False,
    project: Project = None,
    url: Url = None,
) -> None:
    """Remove old versions of a model, but for those that anybody holds.

    Production, previous, candidate, shadow, every alias, what a running task has and what a
    function pins by number stay. Without options the settings say what is kept.

    \b
    Examples:
      skipper models gc boston --keep-versions 20 --trial
      skipper models gc boston --keep-versions 20 --keep-days 30
    """
    with target(project, url).client() as client:
        cleared = client.clear_model(
            selector_of(name).name, keep_versions=keep_versions, keep_days=keep_days, trial=trial
        )
    if json_:
        show_json(cleared)
        return
    show_table(("VERSION", "HELD BY"), [[each["version"], each["by"]] for each in cleared["held"]])
    numbers = ", ".join(map(str, cleared["removed"])) or "nothing"
    info(f"{'Would remove' if trial else 'Removed'}: {numbers}.")


@contextlib.contextmanager
def _explained(where: Target, name: str) -> Iterator[None]:
    """What to do next is said of a change within that is refused."""
    show = f"`skipper models show{where.flags} {name}`"
    try:
        yield
    except ConflictError as error:
        held = error.problem.get("deployment") or {}
        by, why = held.get("by") or "a training", held.get("why")
        reason = f" ({why})" if why else ""
        info(neutral(f"It was changed by {by}{reason}; look at {show}, and decide anew."))
        raise
    except KeptOutError:
        info("Compare them with `skipper models diff`, or add --force and --why.")
        raise
    except UnfitError:
        info(f"{show} lists the versions that are fit.")
        raise


def _tell(record: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(record)
    else:
        show_record(record)
    for pool in record.get("pending", ()):
        info(f"Pool {pool} has not taken that in yet: it is loading, or does not answer.")
