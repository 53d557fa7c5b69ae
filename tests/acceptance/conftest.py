"""The trees that acceptance tests share, and their output beside a failure."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.tree import Gate, Tree, lent, living

PLAIN = Path(__file__).parent / "plain"
_TAIL = 6000

Grow = Callable[..., Tree]
"""Makes a tree of a project folder; takes what :class:`Tree` takes."""


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """The tree of ``plain/``, which no test stops, changes or fills up."""
    folder = tmp_path_factory.mktemp("plain") / "project"
    shutil.copytree(PLAIN, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with lent(Tree(folder)) as tree:
        yield tree.ready()
        tree.end()


@pytest.fixture
def grow() -> Iterator[Grow]:
    """Trees of a test's own; what is left of them at its end is ended."""
    with ExitStack() as stack:
        yield lambda *arguments, **more: stack.enter_context(lent(Tree(*arguments, **more)))


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate that is open at the end, whatever the test does."""
    made = Gate(tmp_path)
    yield made
    made.open()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        sections = ((f"skipper up in {tree.folder}", tree.output[-_TAIL:]) for tree in living)
        report.sections += sections
    return report
