"""``skipper call``: run a function and print its value."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from skipper.cli.body import request_body
from skipper.cli.follow import followed, show_unfinished
from skipper.cli.output import show, show_json
from skipper.cli.target import Project, Target, Url, target
from skipper.errors import NotFoundError, SkipperError
from skipper.exits import Exit


def call(
    name: Annotated[str, typer.Argument(metavar="FUNCTION", help="Its name: FILE.FUNCTION.")],
    *,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", "-d", metavar="JSON|@FILE|-", help="The body; - reads it from stdin."
        ),
    ] = None,
    params: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="One member; JSON or plain text."),
    ] = None,
    wait: Annotated[
        int | None,
        typer.Option("--wait", min=0, metavar="S", help="As a task, waiting this long at most."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "--async", help="As a task: print its id and return.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="Give up after this many seconds.")
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of a task: -10 to 10, the higher, the sooner it starts."),
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="As a task that starts after 90, 90s or 5m."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="As a task that expires if it is not started by then."),
    ] = None,
    project: Project = None,
    url: Url = None,
) -> None:
    """Call a function and print its value as JSON.

    What becomes a task is followed: progress and logs on standard error, the value at the end.
    Ctrl-C stops following; the task goes on.

    \b
    Examples:
      skipper call boston.predict -d @house.json
      skipper call boston.predict -d '{"rm": 6.5}' -p lstat=4.98
      skipper call boston.train -p epochs=50 -p options.rate=0.01
      skipper call boston.train --detach
      skipper call boston.train --detach --delay 2h --priority -5
    """
    if wait is not None and detach:
        raise typer.BadParameter("--wait waits and --detach does not; leave one of them.")
    from skipper.cli.progress import display
    from skipper.client import Terms

    body = request_body(data, params or [])
    where = target(project, url)
    prefer = f"wait={wait}" if wait is not None else "respond-async" if detach else ""
    terms = Terms(priority=priority, delay=delay, expires=expires)
    try:
        with where.client(timeout) as client:
            answer = client.invoke(name, body, prefer=prefer, terms=terms)
    except NotFoundError as error:
        raise _with_suggestion(error, name, where) from None
    if answer.task is None:
        show_json(answer.value)
    elif detach:
        show(answer.task["id"])
    elif wait is not None:
        show_unfinished(answer.task["id"], where, f"has not ended after {wait} s")
        raise typer.Exit(Exit.TIMED_OUT)
    else:
        show_json(followed(answer.task["id"], where, display(), timeout))


def _with_suggestion(error: NotFoundError, name: str, where: Target) -> NotFoundError:
    """``error`` with the function that was probably meant, unless the gateway has named it."""
    message = str(error)
    if "did you mean" not in message.lower() and (close := _closest(name, where)):
        message = f"{message.rstrip('.')}; did you mean {close!r}?"
    end = "" if message.endswith(("?", ".")) else "."
    named = NotFoundError(f"{message}{end} `skipper functions{where.flags}` lists them all.")
    named.problem = error.problem
    return named


def _closest(name: str, where: Target) -> str | None:
    try:
        with where.client() as client:
            names = [function["name"] for function in client.functions()]
    except SkipperError:
        return None
    return next(iter(difflib.get_close_matches(name, names, 1, 0.5)), None)
