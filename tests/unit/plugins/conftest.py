"""A store with the shipped plugins, and a run whose events are kept."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

from skipper.blobs import BlobStore
from skipper.function.model import Model
from skipper.instance.jobs import ModelRef
from skipper.instance.models import LoadedModels
from skipper.instance.plugins import Plugins
from tests.unit.plugins.stand_in import KeptEvents


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tables are learned fastest on one thread, which is what an instance mostly has."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def loaded_models(tmp_path: Path) -> LoadedModels:
    return LoadedModels(
        BlobStore(str(tmp_path / "blobs")),
        Plugins(tmp_path / "plugins"),
        tmp_dir=tmp_path / "tmp",
        models_dir=tmp_path / "models",
    )


@pytest.fixture
def stored(loaded_models: LoadedModels) -> Callable[[Any], Any]:
    """Put a value into the store and take it out again, as training and serving do."""

    numbers = itertools.count(1)

    def through(value: Any) -> Any:
        saved, number = loaded_models.save(Model("sample", value)), next(numbers)
        loaded_models.put(ModelRef(name="sample", version=number, **saved))
        return loaded_models.injected({"model": "sample"})["model"]

    return through


@pytest.fixture
def kept() -> KeptEvents:
    return KeptEvents()


@pytest.fixture(scope="session")
def keras() -> Any:
    return pytest.importorskip("keras", reason="TensorFlow is not installed")
