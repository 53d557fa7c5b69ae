"""The command line: one module per group of verbs.

Results go to standard output, everything else to standard error. What is heavy is imported inside
the verb that needs it, and ``skipper up`` does not even import typer: it becomes the launcher.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that ``sys.argv`` holds; does not return."""
    if sys.argv[1:2] == ["up"]:
        from skipper.cli import up

        sys.exit(up.main(sys.argv[2:]))
    from skipper.cli.app import app

    app(prog_name="skipper")
