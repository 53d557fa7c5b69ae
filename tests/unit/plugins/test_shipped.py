"""What holds for every plugin of this repository."""

import subprocess
import sys
from pathlib import Path

import pytest

import skipper_webhooks
from skipper.hookspecs import Project
from skipper.instance.plugins import Plugins
from tests.unit.plugins.stand_in import survey

_HEAVY = """
import sys, {}
heavy = {{"keras", "tensorflow", "pandas", "sklearn", "skops", "numpy", "httpx", "PIL", "pyarrow"}}
heavy |= {{"polars", "xgboost", "lightgbm", "onnx", "onnxruntime", "torch", "transformers"}}
print(heavy & {{*sys.modules}})
"""


SHIPPED = [
    "array-values",
    "functions",
    "huggingface-models",
    "image-values",
    "lightgbm-models",
    "numpy-models",
    "onnx-models",
    "pandas-models",
    "sklearn-models",
    "table-values",
    "tabular",
    "tensorflow",
    "torch-models",
    "webhooks",
    "xgboost-models",
]


@pytest.mark.parametrize(
    "name",
    [
        "skipper_arrays",
        "skipper_huggingface",
        "skipper_images",
        "skipper_lightgbm",
        "skipper_numpy",
        "skipper_onnx",
        "skipper_pandas",
        "skipper_sklearn",
        "skipper_tables",
        "skipper_tensorflow",
        "skipper_tabular",
        "skipper_torch",
        "skipper_webhooks",
        "skipper_xgboost",
    ],
)
def test_importing_a_plugin_imports_no_heavy_library(name: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", _HEAVY.format(name)], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "set()"


def test_any_project_has_the_shipped_plugins(tmp_path: Path) -> None:
    plugins = Plugins(tmp_path / "plugins")

    assert plugins.names == SHIPPED
    assert plugins.broken == []


def test_each_is_loaded_once_in_the_repository_that_ships_them() -> None:
    plugins = Plugins(Path(__file__).parents[3] / "plugins")

    assert plugins.names == SHIPPED
    assert plugins.broken == []


def test_a_project_without_a_table_is_served_nothing(tmp_path: Path) -> None:
    report = survey(tmp_path)

    assert (report.sources, report.broken, report.warnings) == ((), (), ())


def test_a_project_with_a_table_is_served_tabular(tmp_path: Path) -> None:
    report = survey(tmp_path, "tabular")

    assert (report.broken, report.warnings) == ((), ())
    assert [source.name for source in report.sources] == ["tabular"]
    assert report.sources[0].pools == ("cpu",)
    assert {"pandas", "sklearn.ensemble", "skops.io"} <= set(report.sources[0].libraries)


def test_a_file_of_the_project_named_tabular_goes_before(tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "tabular.py").write_text("import skipper\n")

    report = survey(tmp_path, "tabular")

    assert [source.origin for source in report.sources] == ["functions"]
    assert "both define functions named tabular" in report.broken[0].error


@pytest.mark.parametrize(("set_up", "offered"), [((), []), (("webhooks",), ["webhooks"])])
def test_webhooks_are_delivered_where_there_are_any(
    set_up: tuple[str, ...], offered: list[str]
) -> None:
    project = Project(
        folder=Path(), functions_dir=Path(), plugins_dir=Path(), set_up=frozenset(set_up)
    )
    found = skipper_webhooks.skipper_sources(project=project)
    assert [source.name for source in found] == offered
    assert all(source.file.is_file() for source in found)
