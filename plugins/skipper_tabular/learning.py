"""Learning one column of a table from the others: which task, which estimator, how good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from skipper_tabular import table as tables
from skipper_tabular.kinds import ESTIMATORS, FOLDS, Estimator, Task
from skipper_tabular.table import Columns

_MIN_ROWS = 10
"""Of fewer, one row alone would be held out to measure a model with."""
_FEW_CLASSES = 10
"""So many different whole numbers are classes; more are quantities."""
_COMPARED_ROWS = 20_000
"""More would hardly change which estimator is the better one, and take longer."""
_INT_LIMIT = 2**53  # whole numbers are exact in float64 up to here
_CATEGORY_LIMIT = 250  # boosting takes at most 255 categories of a column


@dataclass(frozen=True, kw_only=True)
class LearningProblem:
    """What to learn, from rows whose answer is known."""

    task: Task
    why: str
    columns: Columns
    x: pd.DataFrame
    y: np.ndarray[Any, Any]
    """float64, or classes as text, int64 or bool; one per row of ``x``."""
    left_out: int
    """Rows without an answer, or whose class occurs only once."""


def task_of(target: pd.Series[Any]) -> tuple[Task, str]:
    """What a target column asks for, and why.

    Text and true/false are classes; so are at most ten different whole numbers. Any other numbers
    are quantities.
    """
    distinct, known = target.nunique(), target.dropna()
    if not pd.api.types.is_numeric_dtype(target) or pd.api.types.is_bool_dtype(target):
        return (
            Task.CLASSIFICATION,
            f"the target has {distinct} different values that are not numbers",
        )
    if distinct <= _FEW_CLASSES and (known == known.round()).all():
        return Task.CLASSIFICATION, f"the target has only {distinct} different whole numbers"
    return Task.REGRESSION, f"the target has {distinct} different numbers"


def problem_of(table: pd.DataFrame, target: str, task: Task | None = None) -> LearningProblem:
    """The problem of learning the column ``target``; ``task`` overrules what :func:`task_of` finds.

    Raises ValueError, in words, for a table that nothing can be learned from.
    """
    found, why = task_of(table[target])
    task, why = (found, why) if task is None else (task, "as asked for")
    y = _answers(table[target], task)
    if task is Task.CLASSIFICATION:
        y = y[y.groupby(y).transform("size") > 1]
    rows = table.loc[y.index]
    if len(rows) < _MIN_ROWS:
        raise ValueError(
            f"{len(rows)} rows have a usable value in {target!r}; it takes {_MIN_ROWS}"
        )
    if y.nunique() < 2:
        raise ValueError(f"every row has the same value in {target!r}: there is nothing to learn")
    columns = tables.columns_of(rows, target)
    if not columns.numbers + columns.categories:
        raise ValueError(
            f"no column but {target!r} says anything: each has one value only, or texts of its own"
        )
    return LearningProblem(
        task=task,
        why=why,
        columns=columns,
        x=tables.features(rows, columns),
        y=y.to_numpy(),
        left_out=len(table) - len(rows),
    )


def _answers(target: pd.Series[Any], task: Task) -> pd.Series[Any]:
    """The answers that are known, as estimators take them."""
    if task is Task.REGRESSION:
        return tables.numbers(target).dropna()
    known = target.dropna()
    if pd.api.types.is_bool_dtype(known):
        return known
    if (
        pd.api.types.is_numeric_dtype(known)
        and (known.abs() < _INT_LIMIT).all()
        and (known == known.round()).all()
    ):
        return known.astype("int64")
    return known.map(str).astype(object)


def split(problem: LearningProblem, holdout: float, seed: int) -> list[Any]:
    """``x_train, x_test, y_train, y_test``, by chance; each class in both if there is room."""
    count, classes = len(problem.y), len(np.unique(problem.y))
    tested = int(np.ceil(count * holdout))
    is_even = problem.task is Task.CLASSIFICATION and min(tested, count - tested) >= classes
    parts: list[Any] = train_test_split(
        problem.x,
        problem.y,
        test_size=tested,
        random_state=seed,
        stratify=problem.y if is_even else None,
    )
    if len(np.unique(parts[2])) < 2:
        raise ValueError("too few rows differ in the target to train and to test; send more")
    return parts


def pipeline(estimator: Estimator, problem: LearningProblem, seed: int) -> Pipeline:
    """An estimator that takes what :func:`skipper_tabular.table.features` makes, not fitted yet."""
    makers = {"boosting": _boosting, "linear": _linear}
    columns, last = makers[estimator](problem, seed)
    return Pipeline([("columns", columns), ("estimator", last)])


def _boosting(problem: LearningProblem, seed: int) -> tuple[ColumnTransformer, Any]:
    """Gradient-boosted trees; they take missing numbers and categories as they are."""
    numbers, categories = problem.columns.numbers, problem.columns.categories
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=_CATEGORY_LIMIT
    )
    columns = ColumnTransformer(
        [
            ("numbers", "passthrough", list(numbers)),
            ("categories", encoder, list(categories)),
            ("left out", "drop", list(problem.columns.left_out)),
        ]
    )
    is_regression = problem.task is Task.REGRESSION
    kind = HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
    places = list(range(len(numbers), len(numbers) + len(categories)))
    return columns, kind(categorical_features=places or None, random_state=seed)


def _linear(problem: LearningProblem, seed: int) -> tuple[ColumnTransformer, Any]:
    """Ridge or logistic regression; missing numbers become the median, categories a column each."""
    del seed
    scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=50)
    columns = ColumnTransformer(
        [
            ("numbers", scaled, list(problem.columns.numbers)),
            ("categories", encoder, list(problem.columns.categories)),
            ("left out", "drop", list(problem.columns.left_out)),
        ]
    )
    if problem.task is Task.REGRESSION:
        return columns, RidgeCV(np.logspace(-3, 3, 13))
    return columns, LogisticRegression(max_iter=1000)


def compare(
    problem: LearningProblem, x: pd.DataFrame, y: np.ndarray[Any, Any], seed: int
) -> Iterator[tuple[Estimator, float]]:
    """Cross-validate each estimator: yields its name and its score (R² or accuracy), fold by fold.

    Of a large table the first 20,000 rows are compared.
    """
    x, y = x[:_COMPARED_ROWS], y[:_COMPARED_ROWS]
    folds = list(_folds(problem.task, seed, y).split(x, y))
    for name in ESTIMATORS:
        for train, test in folds:
            if len(np.unique(y[train])) > 1:
                model = pipeline(name, problem, seed).fit(x.iloc[train], y[train])
                yield name, float(model.score(x.iloc[test], y[test]))


def _folds(task: Task, seed: int, y: np.ndarray[Any, Any]) -> Any:
    if task is Task.CLASSIFICATION:
        rarest = int(np.unique(y, return_counts=True)[1].min())
        if rarest > 1:
            return StratifiedKFold(min(FOLDS, rarest), shuffle=True, random_state=seed)
    return KFold(FOLDS, shuffle=True, random_state=seed)


def measure(
    model: Pipeline,
    task: Task,
    x: pd.DataFrame,
    y: np.ndarray[Any, Any],
    y_train: np.ndarray[Any, Any],
) -> dict[str, float]:
    """How good ``model`` is on rows that it has not seen, beside always giving the same answer.

    Regression: ``rmse``, ``mae`` (in the target's unit) and ``r2``; the baseline is the mean.
    Classification: ``accuracy`` and ``f1`` (mean over the classes), of 1; the baseline is the most
    frequent class.
    """
    found = model.predict(x)
    if task is Task.REGRESSION:
        constant = np.full(len(y), y_train.mean())
        return {
            "rmse": float(metrics.root_mean_squared_error(y, found)),
            "mae": float(metrics.mean_absolute_error(y, found)),
            **({"r2": float(metrics.r2_score(y, found))} if len(y) > 1 else {}),
            "baseline_rmse": float(metrics.root_mean_squared_error(y, constant)),
        }
    classes, counts = np.unique(y_train, return_counts=True)
    return {
        "accuracy": float(metrics.accuracy_score(y, found)),
        "f1": float(metrics.f1_score(y, found, average="macro", zero_division=0)),
        "baseline_accuracy": float(np.mean(y == classes[counts.argmax()])),
    }
