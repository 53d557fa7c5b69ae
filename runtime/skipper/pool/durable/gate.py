"""Whether a version's metrics let it serve, by the rules of its model. Pure.

No rule is an expression: each is a bound, by itself or on the quotient of a metric and what it is
in production. What is decided is a document that stays with the version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skipper.settings.models import GateRule

Metrics = Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Production:
    """What a version is compared with: the one in production, and its metrics."""

    version: int
    metrics: Metrics


def judged(
    rules: Mapping[str, GateRule], metrics: Metrics, production: Production | None
) -> dict[str, Any]:
    """What the rules say: ``passed``, each of the ``checks`` with its numbers, and ``why`` not."""
    checks = [
        _check(metric, bound, value, metrics, production)
        for metric, rule in rules.items()
        for bound, value in rule.bounds.items()
    ]
    return verdict([each["why"] for each in checks if not each["passed"]], production) | {
        "checks": checks
    }


def verdict(reasons: list[str], production: Production | None) -> dict[str, Any]:
    """A decision without numbers: passed where there is no reason against it."""
    return {
        "passed": not reasons,
        "against": production.version if production else None,
        "why": "; ".join(reasons) or None,
    }


def answered(function: str, value: Any, production: Production | None) -> dict[str, Any]:
    """What a function's answer says: true or false, and nothing else does."""
    reasons = [] if value is True else [f"{function} says no"]
    if not isinstance(value, bool):
        reasons = [f"{function} answered {str(value)[:80]!r}, which is neither true nor false"]
    return verdict(reasons, production) | {"function": function}


def failed(function: str, reason: str, production: Production | None) -> dict[str, Any]:
    """What it says that a function has not answered."""
    return verdict([f"{function} {reason}"], production) | {"function": function}


def _check(
    metric: str, bound: str, limit: float, metrics: Metrics, production: Production | None
) -> dict[str, Any]:
    value: Any = (metrics or {}).get(metric)
    check = {"metric": metric, "rule": bound, "bound": limit, "value": _shown(value)}
    if problem := _problem(metric, metrics):
        return check | {"passed": False, "why": problem}
    if not bound.endswith("_to_production"):
        return check | _compared(metric, bound, float(value), limit)
    if production is None:
        return check | {"passed": True, "why": "nothing is in production"}
    there: Any = (production.metrics or {}).get(metric)
    check |= {"production": _shown(there)}
    if _problem(metric, production.metrics):
        why = f"version {production.version}, in production, has no {metric} to compare with"
        return check | {"passed": True, "why": why}
    ratio = _quotient(float(value), float(there))
    return check | {"ratio": _shown(ratio)} | _compared(f"{metric} ratio", bound, ratio, limit)


def _compared(what: str, bound: str, value: float, limit: float) -> dict[str, Any]:
    is_least = bound.startswith("min")
    passed = value >= limit if is_least else value <= limit
    word = "below" if is_least else "above"
    return {"passed": passed, "why": None if passed else f"{what} {value:.6g} is {word} {limit:g}"}


def _problem(metric: str, metrics: Metrics) -> str:
    """Why a metric cannot be compared; empty where it can."""
    if metric not in (metrics or {}):
        return f"it has no metric {metric!r}"
    value = (metrics or {})[metric]
    if value is None:
        return f"{metric} is null: not a number, infinite, or nothing"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{metric} is {str(value)[:80]!r}, no number"
    return "" if math.isfinite(value) else f"{metric} is {value}"


def _quotient(value: float, there: float) -> float:
    """Of equal values 1, zeros too; beside a zero all else is infinitely more, or less."""
    if value == there:
        return 1.0
    return value / there if there else math.copysign(math.inf, value)


def _shown(value: Any) -> Any:
    """A metric as JSON can say it: what is no finite number, as text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or (is_number and math.isfinite(value)):
        return value
    return str(value)[:80]
