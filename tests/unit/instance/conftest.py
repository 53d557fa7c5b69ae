"""An instance to serve functions with, in this process."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipper.instance.plugins import Plugins
from tests.unit.instance.serving import PLUGIN, Serving


@pytest.fixture(autouse=True)
def no_functions_yet() -> Iterator[None]:
    """As in a new instance, no function file has been imported, whatever other tests imported."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_function_file(name)}
    yield
    for name in [name for name in sys.modules if _is_function_file(name)]:
        del sys.modules[name]
    sys.modules.update(before)


def _is_function_file(name: str) -> bool:
    return name.partition(".")[0] == "functions"


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
