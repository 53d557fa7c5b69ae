"""An instance to serve functions with, in this process."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipper.plugins import Plugins
from tests.unit.instance.serving import PLUGIN, Serving


@pytest.fixture(scope="session")
def tiny_plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugins]:
    """Plugins of a project whose models are dictionaries."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "tiny_models.py").write_text(PLUGIN)
    yield Plugins(folder)
    del sys.modules["tiny_models"]


@pytest.fixture
def serving(tmp_path: Path, tiny_plugins: Plugins) -> Iterator[Serving]:
    made = Serving(tmp_path, tiny_plugins)
    yield made
    made.close()
