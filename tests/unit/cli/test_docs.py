"""docs/cli.md is true: its commands parse, its exit codes are those of the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skipper.cli.exits import Exit

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "cli.md").read_text("utf-8")


def commands() -> list[list[str]]:
    """The arguments of every ``skipper …`` that a console block shows."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for line in re.findall(r"^\$ (.*)", block, re.MULTILINE):
            for part in re.split(r" \| | && |\$\(|\)$", line):
                words = shlex.split(part, comments=True)
                if words[:1] == ["skipper"]:
                    found.append(words[1:])
    return found


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_on_the_page_parses(run: Callable[..., Any], arguments: list[str]) -> None:
    result = run(*arguments, "--help")
    assert result.exit_code == 0, result.stderr
    assert "sage: skipper" in result.stdout


def test_the_page_lists_the_exit_codes_of_the_code() -> None:
    table = PAGE.partition("## Exit codes")[2]
    codes = {int(code) for code in re.findall(r"^\| (\d+)", table, re.MULTILINE)}
    assert codes == set(map(int, Exit))
