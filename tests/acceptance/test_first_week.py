"""docs/first-week.md is true: its files make a project, its commands print what it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.acceptance.pages import blocks, commands, done, page
from tests.acceptance.tree import CPU_ALONE, Tree, lent, project, until, write

TEXT = page("docs/first-week.md")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
READS = ("skipper logs", "skipper functions")
"""Commands whose answer may come a moment later: a log is written, a file read, beside the call."""
SAVES = "sed -i"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """The page's project."""
    folder = project(tmp_path_factory.mktemp("week"))
    for text in [*blocks(TEXT, "python"), *blocks(TEXT, "toml")]:
        write(folder, text.partition("\n")[0].removeprefix("# "), text)
    with lent(Tree(folder, "--reload", *CPU_ALONE)) as tree:
        tree.ready().wait_for_functions()
        assert not tree.broken()
        yield tree
        tree.end()


def printed(tree: Tree, command: str) -> str:
    """What a command answers: its output, or, where it fails, what it says of that."""
    ended = done(tree, ["sh", "-c", command])
    return (ended.stderr if ended.returncode else ended.stdout).strip()


def shows(shown: str, output: str) -> bool:
    """Whether ``output`` is what the page shows, in which ``…`` stands for anything."""
    return re.fullmatch(re.escape(shown).replace("…", ".*"), output, re.DOTALL) is not None


def check(tree: Tree, command: str, shown: str, *, again: bool) -> None:
    """The command prints what is shown; ``again``: at least soon."""
    outputs = [printed(tree, command)]
    if again and not shows(shown, outputs[-1]):

        def is_shown() -> bool:
            outputs.append(printed(tree, command))
            return shows(shown, outputs[-1])

        until(is_shown, what=f"{command}\n{shown}\ninstead of\n{outputs[-1]}\n")
    assert shows(shown, outputs[-1]), f"{command}\n{outputs[-1]}"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("title", SECTIONS)
def test_the_commands_of_a_section_print_what_it_shows(tree: Tree, title: str) -> None:
    found = commands(SECTIONS[title])
    assert found, "a section shows what it says"
    before = ""
    for command, shown in found:
        again = command.startswith(READS) or before.startswith(SAVES)
        check(tree, command, shown, again=again)
        before = command


def test_no_block_of_the_page_is_left_out() -> None:
    languages = re.findall(r"^```(\w+)\n(.*)", TEXT, re.MULTILINE)
    assert {language for language, _ in languages} == {"python", "toml", "console"}
    assert all(first.startswith("$ ") for language, first in languages if language == "console")
    named = [first for language, first in languages if language != "console"]
    assert all(re.fullmatch(r"# [\w./]+", first) for first in named)
    assert len(named) == len(set(named))
