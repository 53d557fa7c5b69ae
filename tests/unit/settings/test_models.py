"""Tables of models: what a gate and a canary may be."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from skipper.settings.handover import dump, restore
from skipper.settings.loading import load
from skipper.settings.models import ModelSettings
from skipper.settings.schema import leaves
from tests.unit.settings.test_loading import ROOT, error_of, project, write

__all__ = ["project"]

BOSTON = """[models.boston]
gate.rmse = { max_ratio_to_production = 1.02 }
gate.r2 = { min = 0.9, max = 1 }
promote = "manual"
canary.percent = 10
keep_versions = 20
"""


def test_a_model_has_a_gate_and_says_how_versions_begin(project: Path) -> None:
    write(project, BOSTON)
    settings, origins = load(project)
    boston = settings.models["boston"]
    assert not isinstance(boston.gate, str)
    assert boston.gate["rmse"].bounds == {"max_ratio_to_production": 1.02}
    assert boston.gate["r2"].bounds == {"min": 0.9, "max": 1.0}
    assert (boston.promote, boston.canary.percent, boston.keep) == ("manual", 10, 1)
    assert origins["models.boston.promote"] == "skipper.toml:4"
    shown = dict(leaves(settings))
    assert json.loads(json.dumps(shown["models.boston.canary.percent"])) == 10
    dump(settings, project / "settings.json")
    assert restore(project / "settings.json") == settings


def test_a_gate_may_be_a_function_and_a_model_have_any_name(project: Path) -> None:
    write(project, '[models."Iris.v2"]\ngate = "boston.gate"\n')
    assert load(project)[0].models["Iris.v2"].gate == "boston.gate"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("gate.rmse = {}", ["models.boston.gate", "name a bound: min, max"]),
        ("gate.rmse = { max = nan }", ["models.boston.gate"]),
        ("gate.rmse = { least = 1 }", ["models.boston.gate"]),
        ("gate.rmse = 3", ["models.boston.gate"]),
        ('gate = "rmse < 3"', ["models.boston.gate", "name a file of functions"]),
        ('promote = "maybe"', ["models.boston.promote", "'manual'"]),
        ("canary.percent = 101", ["models.boston.canary.percent"]),
        ("canary.persent = 1", ["'models.boston.canary.percent'"]),
        ("bake.for_s = 120", ["models.boston.bake"]),
        ("shadow.percent = 5", ["models.boston.shadow"]),
        ("keep = 11", ["models.boston.keep"]),
        ("keep_versions = 0", ["models.boston.keep_versions"]),
        ("promoted = true", ["'models.boston.promote'"]),
    ],
)
def test_a_wrong_table_is_named(project: Path, line: str, words: list[str]) -> None:
    write(project, f"[models.boston]\n{line}\n")
    message = error_of(project)
    assert re.match(r"skipper.toml:[12]: ", message), message
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_name_that_no_model_has_is_refused(project: Path) -> None:
    write(project, '[models."a/b"]\nkeep = 1\n')
    assert "cannot name a model" in error_of(project)


def test_the_repositorys_example_of_a_model_is_taken_and_names_all(project: Path) -> None:
    text = (ROOT / "skipper.toml").read_text("utf-8")
    (example,) = re.findall(r"^# (\[models\..+?)\n\n", text, re.MULTILINE | re.DOTALL)
    lines = example.replace("\n# ", "\n").splitlines()
    write(project, "\n".join(lines))
    (table,) = load(project)[0].models.values()
    given: dict[str, Any] = table.model_dump(exclude_unset=True)
    assert given.keys() == ModelSettings.model_fields.keys()
