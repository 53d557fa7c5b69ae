"""``tabular.prepare``, ``tabular.train`` and ``tabular.predict``, from JSON to JSON."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import skipper
import skipper_tabular
from skipper_tabular import tabular
from skipper_tabular.kinds import ESTIMATORS, Task
from skipper_tabular.settings import Settings
from skipper_tabular.tabular import Value
from tests.unit.plugins.stand_in import KeptEvents


def _houses(count: int = 120) -> str:
    """Rooms, a town that is worth something, an id; some values are missing."""
    random = np.random.default_rng(0)
    lines = ["id,rooms,town,empty,price"]
    for number in range(count):
        rooms, town = random.uniform(2, 9), random.choice(["Aa", "Bb", "Cc"])
        price = 10 * rooms + 30 * (town == "Aa") + random.normal()
        shown = "" if number % 11 == 0 else f"{rooms:.3f}"
        lines.append(f"h{number},{shown},{town},,{price:.2f}")
    return "\n".join(lines)


def _called(function: Any, body: Any, **injected: Any) -> Any:
    """What a caller gets: JSON in, JSON out."""
    kwargs = function.signature.parse(json.dumps(body).encode())
    return json.loads(function.signature.dump(function.callable(**kwargs, **injected)))


def _trained(body: dict[str, Any], run: skipper.Run | None = None) -> skipper.Model:
    kwargs = tabular.train.signature.parse(json.dumps(body).encode())
    return tabular.train(**kwargs, run=run or skipper.Run())


def _refused(function: Any, body: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        function.signature.parse(json.dumps(body).encode())
    return str(caught.value)


def test_the_functions_are_named_after_their_file() -> None:
    assert [f.name for f in (tabular.prepare, tabular.train, tabular.predict)] == [
        "tabular.prepare",
        "tabular.train",
        "tabular.predict",
    ]
    assert tabular.predict.signature.loaded_parameters == {"model": "tabular"}


def test_numbers_are_learned_by_regression_and_served(stored: Callable[[Any], Any]) -> None:
    model = _trained({"csv": _houses(), "target": "price"})

    assert model.name == "tabular"
    assert model.metrics["task"] == "regression"
    assert model.metrics["rmse"] < model.metrics["baseline_rmse"] / 2
    assert model.metrics["rows_held_out"] == 24
    answer = _called(
        tabular.predict,
        {"rows": [{"rooms": 8, "town": "Aa"}, {"rooms": 3, "town": "Bb", "id": "h9", "price": 1}]},
        model=stored(model.value),
    )
    assert answer[0]["prediction"] > answer[1]["prediction"] + 30
    assert answer[0].keys() == {"prediction"}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_each_estimator_is_served_as_it_was_trained(
    estimator: str, stored: Callable[[Any], Any]
) -> None:
    model = _trained({"csv": _houses(), "target": "price", "model": estimator})
    rows: list[dict[str, Value]] = [{"rooms": 5.5, "town": "unheard of"}, {"town": None}, {}]

    served = tabular.predictions(stored(model.value), rows)

    assert served == tabular.predictions(model.value, rows)
    assert all(isinstance(answer["prediction"], float) for answer in served)


def test_texts_are_learned_by_classification(stored: Callable[[Any], Any]) -> None:
    model = _trained({"csv": _houses(), "target": "town"})

    assert model.metrics["task"] == "classification"
    assert 0 <= model.metrics["baseline_accuracy"] <= model.metrics["accuracy"] <= 1
    (answer,) = _called(
        tabular.predict, {"rows": [{"rooms": 2, "price": 52}]}, model=stored(model.value)
    )
    assert answer["prediction"] == "Aa"
    assert 0.5 < answer["probability"] <= 1


@pytest.mark.parametrize(
    ("values", "task", "kind"),
    [
        (["yes", "no"], Task.CLASSIFICATION, str),
        (["True", "False"], Task.CLASSIFICATION, bool),
        ([0, 1, 2], Task.CLASSIFICATION, int),
        (range(11), Task.REGRESSION, float),
        ([0.5, 1.5], Task.REGRESSION, float),
    ],
)
def test_the_target_decides_the_task_and_the_type_of_the_answer(
    values: Any, task: Task, kind: type
) -> None:
    values = list(values)
    csv = "x,y\n" + "\n".join(f"{n % len(values)}.5,{values[n % len(values)]}" for n in range(66))

    model = _trained({"csv": csv, "target": "y", "model": "boosting"})

    assert model.metrics["task"] is task
    assert type(tabular.predictions(model.value, [{"x": 0.5}])[0]["prediction"]) is kind


def test_the_caller_may_name_the_task() -> None:
    csv = "x,y\n" + "\n".join(f"{n},{n % 5}" for n in range(50))

    model = _trained({"csv": csv, "target": "y", "task": "regression"})

    assert model.metrics["task"] == "regression"


def test_rows_without_an_answer_and_classes_of_one_row_are_left_out() -> None:
    csv = "x,y\n" + "\n".join(f"{n},{'ab'[n % 2]}" for n in range(40)) + "\n1,\n2,\n3,rare\n"

    model = _trained({"csv": csv, "target": "y"})

    assert model.metrics["rows_left_out"] == 3


def test_the_same_seed_makes_the_same_model() -> None:
    body = {"csv": _houses(), "target": "price", "seed": 7}

    assert _trained(body).metrics == _trained(body).metrics


def test_callers_train_the_models_that_the_table_names_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(skipper_tabular, "configured", [Settings(models=("houses",))])
    body = {"csv": _houses(), "target": "price", "name": "houses", "model": "linear"}

    assert _trained(body).name == "tabular.houses"
    assert "no model of this name (houses)" in _refused(tabular.train, body | {"name": "flats"})
    assert "pattern" in _refused(tabular.train, body | {"name": "../boston"})


def test_by_default_callers_name_no_model() -> None:
    body = {"csv": _houses(), "target": "price", "name": "houses"}

    assert "no model of this name (none)" in _refused(tabular.train, body)


def test_progress_ends_at_its_total(kept: KeptEvents) -> None:
    _trained({"csv": _houses(), "target": "price"}, kept.run)

    assert [event["done"] for event in kept.progress] == list(range(1, 8))
    assert {event["total"] for event in kept.progress} == {7}


def test_a_cancelled_run_makes_no_model(kept: KeptEvents) -> None:
    kept.cancel_after = 1

    with pytest.raises(skipper.Cancelled):
        _trained({"csv": _houses(), "target": "price"}, kept.run)


def test_a_table_is_summed_up() -> None:
    found = _called(tabular.prepare, {"csv": _houses(), "target": "price"})

    kinds = {column["name"]: column["kind"] for column in found["columns"]}
    assert kinds == {
        "id": "left out",
        "rooms": "number",
        "town": "category",
        "empty": "left out",
        "price": "number",
    }
    assert (found["rows"], found["task"]) == (120, "regression")
    assert found["columns"][1]["missing"] == 11
    assert sum(found["columns"][2]["most"].values()) == 120
    assert found["columns"][3]["lowest"] is None


@pytest.mark.parametrize("function", [tabular.prepare, tabular.train])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"csv": "../secret.csv", "target": "x"}, "in the folder that this project serves"),
        ({"csv": "a,b\n1,2\n", "target": "c"}, "there is no column 'c'; there are 'a', 'b'"),
        ({"csv": "price,b\n1,2\n", "target": "prize"}, "did you mean 'price'"),
        ({"csv": "", "target": "a"}, "at least 1 character"),
        ({"csv": "a\n1\n", "target": "a", "tagret": "a"}, "Extra inputs"),
    ],
)
def test_a_wrong_table_is_invalid_input(function: Any, body: dict[str, Any], reason: str) -> None:
    assert reason in _refused(function, body)


@pytest.mark.parametrize(
    ("csv", "reason"),
    [
        ("a,y\n1,2.5\n3,4.5\n", "2 rows have a usable value"),
        ("a,y\n" + "1,2\n" * 20, "the same value"),
        ("a,y\n" + "".join(f"1,{n}\n" for n in range(20)), "no column but 'y'"),
        ("a,y\n" + "".join(f"{n},\n" for n in range(20)), "0 rows have a usable value"),
        ("a,y\n" + "".join(f"{n},c{n}\n" for n in range(20)), "0 rows have a usable value"),
    ],
)
def test_a_table_that_teaches_nothing_is_invalid_input(csv: str, reason: str) -> None:
    assert reason in _refused(tabular.train, {"csv": csv, "target": "y"})


def test_numbers_cannot_be_learned_from_texts() -> None:
    body = {"csv": _houses(), "target": "town", "task": "regression"}

    assert "column 'town' takes numbers" in _refused(tabular.train, body)


def test_a_row_with_an_unknown_column_is_refused() -> None:
    model = _trained({"csv": _houses(), "target": "price", "model": "linear"})

    with pytest.raises(ValueError, match=r"row 1 has a column 'room'.*did you mean 'rooms'"):
        tabular.predictions(model.value, [{}, {"room": 3}])
    assert tabular.predictions(model.value, []) == []


@pytest.mark.parametrize("seed", range(4))
def test_small_and_lopsided_tables_are_learned_or_refused(seed: int) -> None:
    random = np.random.default_rng(seed)
    classes = random.choice(["a", "b", "c", "d"], 14, p=[0.7, 0.1, 0.1, 0.1])
    csv = "x,y\n" + "\n".join(f"{random.normal():.3f},{name}" for name in classes)

    if sum(np.unique(classes, return_counts=True)[1] > 1) < 2:
        assert "the same value" in _refused(tabular.train, {"csv": csv, "target": "y"})
        return
    model = _trained({"csv": csv, "target": "y"})
    assert tabular.predictions(model.value, [{"x": 0}])[0]["prediction"] in set(classes)
