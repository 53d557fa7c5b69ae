"""The trees that attacks are tried on. What leaves anything behind gets a tree of its own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import PLAIN, Grow, gate, grow, pytest_runtest_makereport
from tests.acceptance.tree import Tree, lent, project
from tests.security.raw import Raw

__all__ = ["Grow", "attacked", "connect", "gate", "grow", "pytest_runtest_makereport"]

APP = "https://app.example.com"
"""The origin whose pages the trees that are not :func:`attacked` let in."""
KEYS = ("first-key-0123456789", "second-key-0123456789")
_PARTS = ("--only", "broker,gateway,pool:cpu")

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


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree without keys for any account of the machine, under names of its own, too."""
    toml = f"""
[gateway]
local = "anyone"
allowed_hosts = ["*.skipper.test"]
cors_origins = ["{APP}"]
"""
    with _served(tmp_path_factory.mktemp("public") / "project", toml, "bodies", "bad") as tree:
        yield tree


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree with two keys, which asks with the first of them. Neither is told by anything."""
    toml = f'[gateway]\nkeys = ["{KEYS[0]}", "{KEYS[1]}"]\ncors_origins = ["{APP}"]\n'
    with _served(tmp_path_factory.mktemp("locked") / "project", toml, "bodies") as tree:
        yield tree
        assert not any(key in tree.output for key in KEYS)


@contextlib.contextmanager
def _served(folder: Path, toml: str, *stems: str) -> Iterator[Tree]:
    files = {stem: (PLAIN / "functions" / f"{stem}.py").read_text("utf-8") for stem in stems}
    with lent(Tree(project(folder, toml, **files), *_PARTS)) as tree:
        tree.key = KEYS[0]
        tree.start().wait_for_functions()
        yield tree
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
