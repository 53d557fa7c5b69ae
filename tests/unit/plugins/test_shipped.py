"""What holds for every plugin of this repository."""

import subprocess
import sys
from pathlib import Path

import pytest

from skipper.hookspecs import Project
from skipper.instance import loader
from skipper.plugins import Plugins

_HEAVY = "import sys; import {}; print({{'keras', 'tensorflow', 'pandas', 'sklearn', 'skops', 'numpy'}} & {{*sys.modules}})"


@pytest.mark.parametrize("name", ["skipper_tensorflow", "skipper_tabular"])
def test_importing_a_plugin_imports_no_heavy_library(name: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", _HEAVY.format(name)], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "set()"


def test_any_project_has_the_shipped_plugins(tmp_path: Path) -> None:
    plugins = Plugins(tmp_path / "plugins")

    assert plugins.names == ["functions", "tabular", "tensorflow"]
    assert plugins.broken == []


def test_each_is_loaded_once_in_the_repository_that_ships_them() -> None:
    plugins = Plugins(Path(__file__).parents[3] / "plugins")

    assert plugins.names == ["functions", "tabular", "tensorflow"]
    assert plugins.broken == []


def test_an_empty_project_is_served_tabular(tmp_path: Path) -> None:
    project = Project(
        folder=tmp_path, functions_dir=tmp_path / "functions", plugins_dir=tmp_path / "plugins"
    )

    report = loader.survey(project, Plugins(project.plugins_dir))

    assert report.broken == ()
    assert [source.name for source in report.sources] == ["tabular"]
    assert report.sources[0].pools == ("cpu",)
    assert {"pandas", "sklearn.ensemble", "skops.io"} <= set(report.sources[0].libraries)
