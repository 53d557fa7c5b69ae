"""What columns and targets are, in words that need no library."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Estimator = Literal["boosting", "linear"]
ESTIMATORS: tuple[Estimator, ...] = ("boosting", "linear")
FOLDS = 3


class Task(StrEnum):
    """What is learned: a number, or one of a few classes."""

    REGRESSION = "regression"
    CLASSIFICATION = "classification"


class ColumnKind(StrEnum):
    """What a column is to a model."""

    NUMBER = "number"
    CATEGORY = "category"
    LEFT_OUT = "left out"
    """Nothing to learn from: one value only, or a text of its own in most rows (a name, an id)."""
