"""The samples, imported once: TensorFlow takes its time."""

import importlib
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def boston() -> ModuleType:
    pytest.importorskip("keras", reason="TensorFlow is not installed")
    return importlib.import_module("functions.boston")


@pytest.fixture(scope="session")
def digits() -> ModuleType:
    pytest.importorskip("keras", reason="TensorFlow is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    return importlib.import_module("functions.digits")
