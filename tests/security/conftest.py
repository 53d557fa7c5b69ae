"""The trees that attacks are tried on. What leaves anything behind gets a tree of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.conftest import PLAIN, Grow, gate, grow, pytest_runtest_makereport
from tests.acceptance.tree import Tree, lent
from tests.security.raw import Raw

__all__ = ["Grow", "attacked", "connect", "gate", "grow", "pytest_runtest_makereport"]

Connect = Callable[..., Raw]
"""Opens a connection to a tree's gateway: its URL, and what :class:`Raw` takes."""


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A keyless tree of the acceptance tests' functions, which must stand whatever is sent."""
    folder = tmp_path_factory.mktemp("attacked") / "project"
    shutil.copytree(PLAIN, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with lent(Tree(folder)) as tree:
        yield tree.ready()
        assert "Traceback" not in tree.output
        tree.end()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connections that end with the test."""
    opened: list[Raw] = []

    def open_one(tree: Tree, **more: int) -> Raw:
        opened.append(Raw(tree.url, **more))
        return opened[-1]

    yield open_one
    for raw in opened:
        raw.close()
