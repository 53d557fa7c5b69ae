"""What authors are promised is the names of `skipper`: all of them work, and they are enough."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import skipper

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES.remove(ROOT / "docs" / "api.md")  # signatures
FILES = sorted([*(ROOT / "plugins").rglob("*.py"), *(ROOT / "functions").rglob("*.py")])
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
_PUBLIC = frozenset({*skipper.__all__, "__version__"})


def private_uses(tree: ast.Module) -> list[tuple[int, str]]:
    """Lines that reach for something of Skipper's which is not one of its public names."""
    return [(line, name) for line, name in _uses(tree) if name not in _PUBLIC]


def _uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                modules = (alias.name for alias in names)
                yield from ((node.lineno, n) for n in modules if n.startswith("skipper."))
            case ast.ImportFrom("skipper", names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(str(module)) if module.startswith("skipper."):
                yield node.lineno, module
            case ast.Attribute(ast.Name("skipper"), name):
                yield node.lineno, name


def test_every_public_name_is_there_and_stands_once() -> None:
    assert skipper.__all__ == sorted(set(skipper.__all__), key=lambda name: (name.islower(), name))
    assert sorted(skipper.__all__) == sorted(n for names in skipper._HOMES.values() for n in names)
    assert all(hasattr(skipper, name) for name in skipper.__all__)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_is_shipped_lives_on_public_names_alone(file: Path) -> None:
    found = [f"line {line}: {what}" for line, what in private_uses(ast.parse(file.read_bytes()))]
    assert found == [], "what a shipped plugin needs, strangers' plugins need: make it public"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_so_do_the_examples_in_the_documents(page: Path) -> None:
    for block in _BLOCK.findall(page.read_text()):
        assert private_uses(ast.parse(block)) == [], block


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import skipper.errors", "skipper.errors"),
        ("def f():\n    from skipper.errors import FormatError", "skipper.errors"),
        ("from skipper import hookspecs", "hookspecs"),
        ("import skipper\nskipper.errors.FormatError", "errors"),
    ],
)
def test_a_private_use_is_seen(text: str, found: str) -> None:
    assert [what for _, what in private_uses(ast.parse(text))] == [found]
