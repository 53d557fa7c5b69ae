"""``skipper up``: reads its flags and becomes the launcher.

With argparse and without typer, because the time from Enter to the first answer counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from skipper.cli.output import info, report, show
from skipper.errors import SkipperError
from skipper.exits import Exit

if TYPE_CHECKING:
    import argparse

SUMMARY = "Start the project's whole process tree here and show its log."
_EXAMPLES = """examples:
  skipper up                                   everything, at http://127.0.0.1:8000
  skipper up --project ~/houses --port 9000    another project, on another port
  skipper up --only pool:gpu                   the gpu pool alone, beside a tree elsewhere
  skipper up --detach && skipper status        in the background; `skipper down` stops it

Ctrl-C stops it: what runs has time to finish; a second one kills at once.
"""


def main(argv: list[str]) -> int:
    """Run ``skipper up`` with these arguments; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        return _up(arguments)
    except SkipperError as error:
        return report(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The flags of ``skipper up``; each is left out unless given, so that settings show through."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="skipper up",
        description=SUMMARY,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--project", type=Path, metavar="DIR", help="the project; default: the nearest upwards")
    add("--host", help="address to listen on; beyond loopback needs [gateway] keys")
    add("--port", type=int, help="port to listen on; 0 picks a free one")
    add(
        "--only",
        action="append",
        metavar="PART",
        help="gateway, scheduler, broker, pool:NAME; several times or with commas",
    )
    add(
        "--reload",
        action=argparse.BooleanOptionalAction,
        help="follow saved files; default: at a terminal, and not with --detach",
    )
    add("--strict", action="store_true", default=None, help="stop if a function file is broken")
    add(
        "--detach",
        action="store_true",
        help="return once it is ready, and say what is up; it runs on",
    )
    add("--log-format", choices=("pretty", "json"), help="lines for people or for programs")
    return parser


def _up(arguments: argparse.Namespace) -> int:
    from skipper import launcher
    from skipper.settings.loading import load

    flags = {
        "gateway.host": arguments.host,
        "gateway.port": arguments.port,
        "run.reload": arguments.reload,
        "run.strict": arguments.strict,
        "log.format": arguments.log_format,
    }
    settings, _ = load(arguments.project, flags)
    code = launcher.run(
        settings,
        only=_parts(arguments.only),
        detach=arguments.detach,
        reread=lambda: load(settings.project_dir, flags)[0],
    )
    is_running_already = code == launcher.ALREADY_RUNNING
    if not is_running_already and (code or not arguments.detach):
        return code
    from skipper.cli.status import show_status, status_of

    if is_running_already:
        info(f"This project's tree runs already ({settings.project_dir}):")
    show_status(found := status_of(settings))
    if found.url and not is_running_already:
        follows = "are followed" if settings.run.reload else "are not followed; --reload does that"
        show(f"\nAPI docs at {found.url}/docs. Saved files {follows}. `skipper down` stops it.")
    return Exit.OK


def _parts(given: list[str] | None) -> frozenset[str] | None:
    names = [part.strip() for text in given or () for part in text.split(",")]
    return frozenset(filter(None, names)) or None
