"""``skipper call``: run a function and print its value."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipper.cli.body import request_body
from skipper.cli.follow import followed, show_unfinished
from skipper.cli.output import show, show_json
from skipper.cli.results import Accept, Output, show_result, wanted
from skipper.cli.target import Project, Target, Url, target
from skipper.errors import NotFoundError, SkipperError
from skipper.exits import Exit

if TYPE_CHECKING:
    from skipper.client import Client


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
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=VALUE",
            help="One member, read as the function's hint says.",
        ),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--form", "-F", metavar="NAME=@FILE", help="One member, a file as it is; @- is stdin."
        ),
    ] = None,
    streams: Annotated[
        bool, typer.Option("--stream", help="A generator's items as they come, one a line.")
    ] = False,
    output: Output = None,
    accept: Accept = None,
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
    """Call a function and print its value.

    JSON is printed; a picture, an array or a file goes to -o FILE or a pipe. What becomes a task is
    followed: progress and logs on standard error, the value at the end. Ctrl-C stops following; the
    task goes on.

    \b
    Examples:
      skipper call boston.predict -d @house.json
      skipper call boston.predict -d '{"rm": 6.5}' -p lstat=4.98
      skipper call digits.predict -F image=@7.png
      skipper call media.resize -F picture=@cat.jpg -p width=64 -o small.png
      cat talk.wav | skipper call media.transcribe -F 'recording=@-;type=audio/wav'
      skipper call stream.count -p up_to=5 --stream
      skipper call boston.train -p epochs=50 -p options.rate=0.01
      skipper call boston.train --detach --delay 2h --priority -5
    """
    if wait is not None and detach:
        raise typer.BadParameter("--wait waits and --detach does not; leave one of them.")
    if streams and (detach or output or accept or wait is not None):
        raise typer.BadParameter("--stream prints items as they come; leave the other options.")
    from skipper.cli.progress import display
    from skipper.client import Terms

    where, how = target(project, url), wanted(output, accept)
    prefer = f"wait={wait}" if wait is not None else "respond-async" if detach else ""
    terms = Terms(priority=priority, delay=delay, expires=expires)
    try:
        with where.client(timeout) as client:
            schema = _schema(client, name) if params or files else None
            body = request_body(data, params or [], files or [], schema)
            if streams:
                for item in client.stream(name, body):
                    show_json(item, lines=True)
                return
            answer = client.invoke(name, body, prefer=prefer, terms=terms, wanted=how)
    except NotFoundError as error:
        raise _with_suggestion(error, name, where) from None
    except TypeError as error:
        raise typer.BadParameter(str(error)) from None
    if answer.task is None:
        show_result(answer.reply, output)
    elif detach:
        show(answer.task["id"])
    elif wait is not None:
        show_unfinished(answer.task["id"], where, f"has not ended after {wait} s")
        raise typer.Exit(Exit.TIMED_OUT)
    else:
        show_result(followed(answer.task["id"], where, display(), timeout, how), output)


def _schema(client: Client, name: str) -> Any:
    """What the function says of its body, which texts are read by."""
    from skipper.client.flows import function_path

    return client.get(function_path(name)).get("input_schema")


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
