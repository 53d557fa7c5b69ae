"""What the rules of a gate say of a version's metrics, and what a function's answer says."""

import json
import math
from typing import Any

import pytest

from skipper.pool.durable import gate
from skipper.pool.durable.gate import Production
from skipper.settings.models import GateRule

NAN, INF = math.nan, math.inf
RMSE = {"rmse": GateRule(max_ratio_to_production=1.02)}
R2 = {"r2": GateRule(min=0.9)}


def at(**metrics: Any) -> Production:
    return Production(version=7, metrics=metrics)


@pytest.mark.parametrize(
    ("rules", "metrics", "production", "passed", "why"),
    [
        pytest.param(RMSE, {"rmse": 2.9}, at(rmse=3.0), True, None, id="better"),
        pytest.param(RMSE, {"rmse": 3.05}, at(rmse=3.0), True, None, id="worse-within-its-bound"),
        pytest.param(RMSE, {"rmse": 9.1}, at(rmse=3.0), False, "rmse ratio 3.03333 is above 1.02"),
        pytest.param(RMSE, {"rmse": 3.0}, at(rmse=3.0), True, None, id="equal"),
        pytest.param(RMSE, {"rmse": NAN}, at(rmse=3.0), False, "rmse is nan"),
        pytest.param(RMSE, {"rmse": INF}, at(rmse=3.0), False, "rmse is inf"),
        pytest.param(RMSE, {"rmse": -INF}, at(rmse=3.0), False, "rmse is -inf"),
        pytest.param(RMSE, {"rmse": None}, at(rmse=3.0), False, "rmse is null"),
        pytest.param(RMSE, {"mae": 1.0}, at(rmse=3.0), False, "it has no metric 'rmse'"),
        pytest.param(RMSE, None, at(rmse=3.0), False, "it has no metric 'rmse'", id="no-metrics"),
        pytest.param(RMSE, {"rmse": "low"}, at(rmse=3.0), False, "rmse is 'low', no number"),
        pytest.param(RMSE, {"rmse": True}, at(rmse=3.0), False, "rmse is 'True', no number"),
        pytest.param(RMSE, {"rmse": [3.0]}, at(rmse=3.0), False, "no number", id="a-list"),
        pytest.param(RMSE, {"rmse": 9.1}, None, True, None, id="no-production-yet"),
        pytest.param(RMSE, {"rmse": NAN}, None, False, "rmse is nan", id="nan-and-no-production"),
        pytest.param(RMSE, {"rmse": 9.1}, at(), True, None, id="production-without-it"),
        pytest.param(RMSE, {"rmse": 9.1}, at(rmse=NAN), True, None, id="production-is-nan"),
        pytest.param(RMSE, {"rmse": 0.0}, at(rmse=0), True, None, id="both-zero"),
        pytest.param(RMSE, {"rmse": 0.1}, at(rmse=0), False, "rmse ratio inf is above 1.02"),
        pytest.param(R2, {"r2": 0.9}, None, True, None, id="least-met"),
        pytest.param(R2, {"r2": 0.89}, None, False, "r2 0.89 is below 0.9"),
        pytest.param(R2, {"r2": INF}, None, False, "r2 is inf", id="an-infinite-best"),
        pytest.param({"n": GateRule(max=5)}, {"n": 6}, None, False, "n 6 is above 5"),
        pytest.param(
            {"r2": GateRule(min_ratio_to_production=1.0)},
            {"r2": 0.8},
            at(r2=0.9),
            False,
            "r2 ratio 0.888889 is below 1",
        ),
        pytest.param(RMSE | R2, {"rmse": 3, "r2": 0.95}, at(rmse=3), True, None, id="two-pass"),
        pytest.param(RMSE | R2, {"rmse": 3, "r2": 0.5}, at(rmse=3), False, "r2 0.5 is below 0.9"),
        pytest.param(RMSE | R2, {"rmse": 9, "r2": 0.5}, at(rmse=3), False, "above 1.02; r2 0.5"),
    ],
)
def test_a_version_is_let_pass_or_kept_out(
    rules: dict[str, GateRule], metrics: Any, production: Any, passed: bool, why: str | None
) -> None:
    decided = gate.judged(rules, metrics, production)
    assert decided["passed"] is passed
    assert (why or "") in (decided["why"] or "")
    assert (decided["why"] is None) is passed
    assert decided["against"] == (production.version if production else None)
    assert json.loads(json.dumps(decided, allow_nan=False)) == decided, "it is kept as JSON"


def test_what_was_compared_is_kept_with_its_numbers() -> None:
    (check,) = gate.judged(RMSE, {"rmse": 3.3}, at(rmse=3.0))["checks"]
    assert check.pop("ratio") == pytest.approx(1.1)
    assert check == {
        "metric": "rmse",
        "rule": "max_ratio_to_production",
        "bound": 1.02,
        "value": 3.3,
        "production": 3.0,
        "passed": False,
        "why": "rmse ratio 1.1 is above 1.02",
    }


@pytest.mark.parametrize("value", [1, 0, None, "true", [True], {"passed": True}])
def test_a_function_answers_true_or_false_and_nothing_else(value: Any) -> None:
    assert gate.answered("boston.gate", True, at())["passed"] is True
    assert gate.answered("boston.gate", False, at())["why"] == "boston.gate says no"
    decided = gate.answered("boston.gate", value, at())
    assert decided["passed"] is False
    assert "neither true nor false" in decided["why"]
