"""Where the value of a call goes: JSON and text to the terminal, all else to a file or a pipe."""

from __future__ import annotations

import mimetypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipper.cli.output import info, neutral, show, show_json
from skipper.exits import Exit

if TYPE_CHECKING:
    from skipper.client import WantedValue
    from skipper.client.messages import Reply

Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE|-", help="Write the value there as it is; - to stdout."
    ),
]
Accept = Annotated[
    str | None,
    typer.Option(metavar="TYPE", help="The media type to have the value in; -o x.png asks so too."),
]
STANDARD_OUTPUT = "-"
_ANYTHING = "*/*"
_BY_SUFFIX = {
    ".npy": "application/x-npy",
    ".arrow": "application/vnd.apache.arrow.stream",
    ".arrows": "application/vnd.apache.arrow.stream",
    ".parquet": "application/vnd.apache.parquet",
    ".webp": "image/webp",
}
"""What not every system's table has."""


def wanted(output: str | None, accept: str | None) -> WantedValue:
    """How the value is to come. Raises typer.BadParameter for where nothing can be written."""
    from skipper.client import WantedValue
    from skipper.client.messages import Outlet

    if output in (None, STANDARD_OUTPUT):
        to = None if output is None else Outlet(sys.stdout.buffer)
        return WantedValue(accept=accept or _ANYTHING, to=to)
    path = writable(output or "")
    suffix = path.suffix.lower()
    told = accept or _BY_SUFFIX.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0]
    return WantedValue(accept=f"{told}, {_ANYTHING};q=0.1" if told else _ANYTHING, to=path)


def writable(output: str) -> Path:
    """Where ``-o`` has a file written. Raises typer.BadParameter where none can be."""
    path = Path(output).expanduser()
    if path.is_dir() or not path.parent.is_dir():
        what = "is a directory" if path.is_dir() else f"there is no directory {path.parent}"
        raise typer.BadParameter(f"-o {output}: {what}.")
    return path


def show_result(reply: Reply, output: str | None) -> None:
    """Print a value, or tell where it has been written.

    What is neither JSON nor text goes to a terminal only if ``output`` says so.
    """
    from skipper.client.contents import is_json, media_type_of

    kind = media_type_of(reply)
    if reply.saved is not None:
        size = reply.saved.stat().st_size
        info(f"{neutral(str(reply.saved))}: {size} bytes, {neutral(kind)}")
    elif output == STANDARD_OUTPUT:
        _write(reply.content)  # nothing, where it has gone there as it came
    elif is_json(reply):
        show_json(reply.json())
    elif not sys.stdout.isatty():
        _write(reply.content)
    elif kind.startswith("text/"):
        show(_printable(reply.content))
    else:
        info(
            f"The value is {neutral(kind)}, {len(reply.content)} bytes, and this is a "
            "terminal: -o FILE writes it to a file, | PROGRAM passes it on, -o - shows it."
        )
        raise typer.Exit(Exit.FAILED)


def _printable(data: bytes) -> str:
    return "\n".join(neutral(line) for line in data.decode(errors="replace").splitlines())


def _write(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
