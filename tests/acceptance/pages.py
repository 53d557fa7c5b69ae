"""What the pages show, and how a test runs it: commands in a shell, beside a tree of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.acceptance.tree import LIMIT_S, Tree

REPOSITORY = Path(__file__).parents[2]


def page(name: str) -> str:
    """The text of a page, by its path in the repository."""
    return (REPOSITORY / name).read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def section(text: str, title: str, language: str) -> str:
    """The first block of a section of a page."""
    return blocks(text[text.index(f"## {title}") :], language)[0]


def commands(text: str) -> list[tuple[str, str]]:
    """Each command of the console blocks, and what the page shows of its output."""
    found = []
    for block in blocks(text, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n", part)
            assert command is not None
            found.append((command[0], part[command.end() :].strip()))
    return found


def environment(tree: Tree) -> dict[str, str]:
    """What the commands find: ``skipper`` on the PATH, and this tree."""
    own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SKIPPER_URL": tree.url}
    return tree.environment() | own


def done(tree: Tree, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder, however it ends."""
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=tree.folder,
        env=environment(tree),
        timeout=2 * LIMIT_S,
    )


def run(tree: Tree, command: list[str]) -> str:
    """Run a command in the project's folder; what it prints."""
    ended = done(tree, command)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout
