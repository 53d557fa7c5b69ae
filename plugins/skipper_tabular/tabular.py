"""``tabular.prepare``, ``tabular.train``, ``tabular.predict``: a model from any CSV, no code."""

from __future__ import annotations

import difflib
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import TypedDict

import skipper
import skipper_tabular
from skipper_tabular.kinds import ESTIMATORS, FOLDS, ColumnKind, Estimator, Task
from skipper_tabular.settings import MODEL_NAME

# The libraries are imported where they are used, so that only those who call these functions wait
# for them (the template of their first instance does).
if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

    from skipper_tabular.learning import LearningProblem
    from skipper_tabular.table import Columns

MODEL = "tabular"
"""Name of the model that :data:`predict` serves."""

Value = int | float | bool | str | None


class _Csv(BaseModel):
    """A CSV file of the folder in the plugin's settings, or the text itself.

    What is wrong with it is found while the input is validated, so that a caller learns what to
    change (422) rather than that a function failed.
    """

    model_config = ConfigDict(extra="forbid")

    csv: str = Field(
        min_length=1,
        description="path of a .csv file, relative to the folder that the project serves tables "
        "from, or the text of a table (whatever has a line break); the first line names the "
        "columns",
    )
    separator: str = Field(",", min_length=1, max_length=1)

    @field_validator("csv")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        from skipper_tabular import table as tables

        if not tables.is_text(value):
            tables.locate(value)
        return value

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table, read once."""
        from skipper_tabular import table as tables

        return tables.read(self.csv, self.separator)

    def check_column(self, name: str) -> None:
        """Raise ValueError unless the table has a column ``name``."""
        names = list(self.frame.columns)
        if name not in names:
            raise ValueError(f"there is no column {name!r}; {_known(name, names)}")


class Table(_Csv):
    """A table to look at."""

    target: str | None = Field(None, description="the column that would be learned")

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.target is None:
            _ = self.frame
        else:
            self.check_column(self.target)
        return self


class Training(_Csv):
    """A table, what to learn from it, and how."""

    target: str = Field(description="the column to learn")
    name: str | None = Field(
        None,
        pattern=MODEL_NAME,
        description="store the model as tabular.<name>, one of those that the project allows, for "
        "a function of its own to serve",
    )
    task: Literal["auto", "regression", "classification"] = Field(
        "auto",
        description="auto: classes if the target is text, true/false or at most ten different "
        "whole numbers, else a number",
    )
    model: Literal["auto", "boosting", "linear"] = Field(
        "auto", description="auto: whichever is better in cross-validation"
    )
    holdout: float = Field(0.2, ge=0.05, le=0.5, description="share of the rows kept for measuring")
    seed: int = Field(0, ge=0, lt=2**32, description="the same seed makes the same model")

    @field_validator("name")
    @classmethod
    def _may_be_replaced(cls, value: str | None) -> str | None:
        allowed = skipper_tabular.configured[0].models if skipper_tabular.configured else ()
        if value is not None and value not in allowed:
            listed = ", ".join(allowed) or "none"
            raise ValueError(
                f"this project lets its callers train no model of this name ({listed})"
            )
        return value

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        self.check_column(self.target)
        _ = self.problem
        return self

    @cached_property
    def problem(self) -> LearningProblem:
        """What is to be learned. Raises ValueError where nothing can be."""
        from skipper_tabular import learning

        task = None if self.task == "auto" else Task(self.task)
        return learning.problem_of(self.frame, self.target, task)


class ColumnSummary(BaseModel):
    """One column: what it is, and what is in it."""

    name: str
    kind: ColumnKind
    missing: int
    distinct: int
    lowest: float | None = None
    mean: float | None = None
    highest: float | None = None
    most: dict[str, int] | None = Field(
        None, description="the five most frequent values and their counts"
    )


class Summary(BaseModel):
    """What is in a table, and what its target would be learned as."""

    rows: int
    columns: list[ColumnSummary]
    target: str | None = None
    task: Task | None = None
    why: str | None = None


class Prediction(TypedDict):
    """The answer to one row."""

    prediction: Value
    """A number in the target's unit, or a class."""
    probability: NotRequired[float]
    """Of a class, as the model sees it: 0 to 1."""


@skipper.data
def prepare(table: Table) -> Summary:
    """Look at a CSV: its columns, what is missing, and what a target would be learned as."""
    from skipper_tabular import learning

    summary = Summary(
        rows=len(table.frame), columns=[_summary(column) for _, column in table.frame.items()]
    )
    if table.target is None:
        return summary
    task, why = learning.task_of(table.frame[table.target])
    return summary.model_copy(update={"target": table.target, "task": task, "why": why})


@skipper.training
def train(job: Training, *, run: skipper.Run) -> skipper.Model:
    """Learn one column of a CSV from the others, and serve the model.

    Regression or classification follows from the target (see ``task``). Numbers and categories may
    be missing; columns with one value only, or with texts of their own in most rows, are left out.
    The metrics are measured on rows that were held out, and stand beside the baseline of always
    giving the same answer.

    The model is stored as ``tabular``, which ``tabular.predict`` serves, or as ``tabular.<name>``.
    """
    from skipper_tabular import learning

    problem = job.problem
    x_train, x_test, y_train, y_test = learning.split(problem, job.holdout, job.seed)
    chosen, scores = _choose(job, x_train, y_train, run)
    model = learning.pipeline(chosen, problem, job.seed).fit(x_train, y_train)
    metrics = {
        "task": problem.task,
        "why": problem.why,
        "model": chosen,
        **learning.measure(model, problem.task, x_test, y_test, y_train),
        "rows_trained": len(y_train),
        "rows_held_out": len(y_test),
        "rows_left_out": problem.left_out,
        "compared": scores,
    }
    run.progress(len(scores) * FOLDS + 1, len(scores) * FOLDS + 1, model=chosen)
    return skipper.Model(MODEL if job.name is None else f"{MODEL}.{job.name}", model, metrics)


@skipper.inference
def predict(
    rows: list[dict[str, Value]], *, model: Annotated[Any, skipper.Loaded(MODEL)]
) -> list[Prediction]:
    """Answer each row with the model that ``tabular.train`` made last.

    A row is ``{"column": value, …}``. A column that it lacks counts as missing; one that the
    training table did not have is refused.
    """
    return predictions(model, rows)


def predictions(model: Pipeline, rows: list[dict[str, Value]]) -> list[Prediction]:
    """What :data:`predict` does, for functions that serve a model named ``tabular.<name>``."""
    import pandas as pd

    from skipper_tabular import table as tables

    if not rows:
        return []
    x = tables.features(pd.DataFrame(rows, dtype=object), _columns(model, rows))
    values = model.predict(x).tolist()
    if not hasattr(model, "classes_"):
        return [{"prediction": value} for value in values]
    best = model.predict_proba(x).max(axis=1).tolist()
    return [{"prediction": value, "probability": p} for value, p in zip(values, best, strict=True)]


def _choose(job: Training, x: Any, y: Any, run: skipper.Run) -> tuple[Estimator, dict[str, float]]:
    """The estimator that was asked for, or the one with the better mean score; and the scores."""
    from skipper_tabular import learning

    if job.model != "auto":
        return job.model, {}
    found: dict[Estimator, list[float]] = {name: [] for name in ESTIMATORS}
    for done, (name, score) in enumerate(learning.compare(job.problem, x, y, job.seed), 1):
        if run.cancelled:
            raise skipper.Cancelled
        found[name].append(score)
        run.progress(done, len(ESTIMATORS) * FOLDS + 1, model=name, score=score)
    means = {name: sum(values) / len(values) for name, values in found.items() if values}
    if not means:
        return "linear", {}
    return max(means, key=lambda name: means[name]), {
        str(name): mean for name, mean in means.items()
    }


def _columns(model: Pipeline, rows: list[dict[str, Value]]) -> Columns:
    """The columns that ``model`` was trained on. Raises ValueError for a row with any other."""
    from skipper_tabular.table import Columns

    taken = {name: columns for name, _, columns in model.named_steps["columns"].transformers}
    columns = Columns(
        numbers=tuple(taken["numbers"]),
        categories=tuple(taken["categories"]),
        left_out=tuple(taken["left out"]),
    )
    for number, row in enumerate(rows):
        for name in row.keys() - set(columns.names):
            raise ValueError(
                f"row {number} has a column {name!r} that the training table did not have; "
                f"{_known(name, columns.names)}"
            )
    return columns


def _known(name: str, names: list[str]) -> str:
    """The nearest of ``names``, or the first of them."""
    close = difflib.get_close_matches(name, names, 1)
    listed = ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")
    return f"did you mean {close[0]!r}?" if close else f"there are {listed}"


def _summary(column: pd.Series[Any]) -> ColumnSummary:
    import pandas as pd

    from skipper_tabular import table as tables

    kind = tables.kind_of(column)
    summary = ColumnSummary(
        name=str(column.name),
        kind=kind,
        missing=int(column.isna().sum()),
        distinct=int(column.nunique()),
    )
    if pd.api.types.is_numeric_dtype(column):
        values = tables.numbers(column)
        figures = {"lowest": values.min(), "mean": values.mean(), "highest": values.max()}
        return summary.model_copy(update={name: float(value) for name, value in figures.items()})
    most = {str(value): int(count) for value, count in column.value_counts().head(5).items()}
    return summary.model_copy(update={"most": most})
