"""Where keys are set nobody comes in without one, and a key that lets everybody in is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.tree import Tree, lent, project

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"
FUNCTION = "import skipper\n\n\n@skipper.inference\ndef add(x: int) -> int:\n    return x + 10\n"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree with two keys."""
    toml = f'[gateway]\nkeys = ["{FIRST}", "{SECOND}"]\n'
    folder = project(tmp_path_factory.mktemp("locked"), toml, bodies=FUNCTION)
    with lent(Tree(folder, "--only", "broker,gateway,pool:cpu")) as tree:
        tree.key = FIRST
        tree.start().wait_for_functions()
        yield tree
        assert FIRST not in tree.output
        assert SECOND not in tree.output
        tree.end()


# --- keys that are none ---


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('[""]', "is empty"),
        ('["   "]', "is empty"),
        ('[" 0123456789abcdef"]', "begins or ends with a blank"),
        ('["short"]', "fewer than 16"),
    ],
)
def test_a_key_that_is_none_stops_the_start_with_its_line(
    tmp_path: Path, written: str, words: str
) -> None:
    project(tmp_path, f'[gateway]\nhost = "0.0.0.0"\nport = 0\nkeys = {written}\n')
    ended = up(Tree(tmp_path), "up")
    assert ended.returncode == 3
    assert "skipper.toml:4: gateway.keys: " in ended.stderr
    assert words in ended.stderr


@pytest.mark.parametrize(("command", "text"), [("up", ""), ("config show", ",")])
def test_so_does_a_variable_that_a_template_left_empty(
    tmp_path: Path, command: str, text: str
) -> None:
    project(tmp_path, f'[gateway]\nport = 0\nkeys = ["{FIRST}"]\n')
    ended = up(Tree(tmp_path, SKIPPER_GATEWAY_KEYS=text), command)
    assert ended.returncode == 3
    assert "$SKIPPER_GATEWAY_KEYS: gateway.keys: key 1" in ended.stderr
    assert FIRST not in ended.stderr + ended.stdout


def up(tree: Tree, command: str) -> subprocess.CompletedProcess[str]:
    verb = [sys.executable, "-m", "skipper", *command.split(), "--project", str(tree.folder)]
    return subprocess.run(
        verb, env=tree.environment(), capture_output=True, text=True, timeout=60, check=False
    )
