"""The fixtures of the plugins' unit tests, in the environment that has PyTorch."""

from tests.unit.conftest import project
from tests.unit.plugins.conftest import loaded_models, stored

__all__ = ["loaded_models", "project", "stored"]
