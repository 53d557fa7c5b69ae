"""How verbs are grouped and how their errors end."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from skipper.cli.output import report
from skipper.errors import SkipperError


class Verbs(TyperGroup):
    """Verbs whose errors are printed as a sentence and end with their exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SkipperError as error:
            raise typer.Exit(report(error)) from None


class ListByDefault(TyperGroup):
    """A group whose name alone lists: ``skipper tasks --state failed``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)
