"""The pages are true of the command line: commands parse, exit codes are those of the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skipper.exits import Exit

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PAGE = (ROOT / "docs" / "cli.md").read_text("utf-8")


def commands() -> list[list[str]]:
    """The arguments of every ``skipper …`` that a console block shows."""
    found = []
    text = "".join(page.read_text("utf-8") for page in PAGES)
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.MULTILINE):
            for part in re.split(r" \| | && |; do |; done|\$\(|\)$", line):
                words = shlex.split(part, comments=True)
                if words[:1] == ["skipper"]:
                    found.append(words[1:])
    return found


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_on_a_page_parses(run: Callable[..., Any], arguments: list[str]) -> None:
    result = run(*arguments, "--help")
    assert result.exit_code == 0, result.stderr
    assert "sage: skipper" in result.stdout


def test_the_page_lists_the_exit_codes_of_the_code() -> None:
    table = PAGE.partition("## Exit codes")[2]
    codes = {int(code) for code in re.findall(r"^\| (\d+)", table, re.MULTILINE)}
    assert codes == set(map(int, Exit))
