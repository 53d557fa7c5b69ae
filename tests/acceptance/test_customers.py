"""A model per customer, models by name, and models that a function can do without."""

from __future__ import annotations

from typing import Any

from tests.acceptance.test_statuses import problem
from tests.acceptance.tree import Tree


def train(tree: Tree, customer: str, slope: float) -> Any:
    body = {"customer": customer, "slope": slope}
    return tree.result(tree.submit("customers.train", body))


def test_each_customer_is_answered_by_the_model_that_was_trained_last(plain: Tree) -> None:
    """A call sent after a training's end gets its version, in either pool and in batches."""
    for round_ in range(1, 4):
        for number, customer in enumerate(("acme", "bolt", "core", "dune")):
            slope = 10.0 * number + round_
            version = train(plain, customer, slope)["version"]
            for function in ("predict", "predict_elsewhere", "predict_many"):
                answer = plain.invoke(f"customers.{function}", {"customer": customer})
                assert (answer.status_code, answer.json()) == (200, slope)
                assert answer.headers["x-skipper-model"] == f"churn-{customer}@{version}"
            assert plain.value("customers.by_name", {"customer": customer}) == slope


def test_a_customer_without_a_model_is_told_which_is_missing_and_what_trains_it(
    plain: Tree,
) -> None:
    answer = plain.invoke("customers.predict", {"customer": "nobody"})
    told = problem(answer, 404, "unknown-model")
    assert "'churn-nobody'" in told["detail"]
    assert "customers.train" in told["detail"]
    assert plain.value("customers.by_name", {"customer": "nobody"}) == -1.0
    train(plain, "nobody", 2.0)
    assert plain.value("customers.predict", {"customer": "nobody", "x": 2}) == 4.0
    assert plain.value("customers.by_name", {"customer": "nobody"}) == 2.0


def test_a_caller_chooses_no_version_and_no_path(plain: Tree) -> None:
    train(plain, "eve", 1.0)
    for customer in ("eve@1", "../eve", "eve/..", "", "e ve"):
        problem(plain.invoke("customers.predict", {"customer": customer}), 404, "unknown-model")


def test_a_training_is_given_the_version_that_serves(plain: Tree) -> None:
    assert train(plain, "own", 5.0)["metrics"] == {"change": 0.0}
    task_id = plain.submit("customers.train", {"customer": "own", "slope": 7.0})
    assert plain.result(task_id)["metrics"] == {"change": 2.0}
    assert plain.task(task_id)["model"] == "churn-own@1"


def test_a_function_that_can_do_without_its_model_is_served_without(plain: Tree) -> None:
    assert plain.value("customers.with_default", {"x": 3}) == 3
    train(plain, "default", 2.0)
    assert plain.value("customers.with_default", {"x": 3}) == 6
    assert plain.function("customers.with_default")["models_by_call"] == ["churn-default"]
