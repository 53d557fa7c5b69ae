"""Models that calls ask for by name: found, kept within a bound, asked for again after a change."""

from __future__ import annotations

import json
import random
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

import skipper
from skipper.errors import NotFoundError
from skipper.function.named import REQUIRED
from skipper.instance import named
from skipper.instance.calls import ServedFunction
from skipper.instance.named import InstanceModels, NamedModels, NoModelError
from skipper.instance.wishes import AnyWish, FindModel, FoundModel
from skipper.outcomes import Outcome
from skipper.wire import calls, frames
from skipper.wire.frames import Frame, FrameKind
from tests.unit.instance.serving import CODE, Reply, Serving, call


class Registry:
    """A host that knows models, and a store that counts what is loaded."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.generation = 0
        self.asked: list[str] = []
        self.loads: Counter[str] = Counter()

    def ask(self, wish: AnyWish) -> bytes:
        assert isinstance(wish, FindModel)
        self.asked.append(wish.selector)
        name, _, at = wish.selector.partition("@")
        version = int(at) if at.isdigit() else self.versions.get(name)
        if version is None:
            raise NotFoundError(f"model {name!r} has no version in production")
        found = FoundModel(
            name=name, version=version, digest="d", format="f", generation=self.generation
        )
        return found.model_dump_json().encode()

    def read(self, format_: str, digest: str, what: str) -> Any:
        label = what.removeprefix("model ")
        self.loads[label] += 1
        return {"label": label}

    def changed(self, *names: str) -> Frame:
        self.generation += 1
        return Frame(FrameKind.FORGET, self.generation, json.dumps(names).encode())

    def models(self, most: int = 20, memory_mb: int = 0) -> NamedModels:
        models: Any = self
        return NamedModels(self.ask, models, most=most, memory_mb=memory_mb)


@pytest.fixture
def registry() -> Registry:
    return Registry()


def label(models: NamedModels, selector: str) -> str:
    return str(models.get(selector, is_own=False)["label"])


def test_a_model_is_asked_for_and_loaded_once(registry: Registry) -> None:
    registry.versions["a"] = 3
    models = registry.models()
    assert [label(models, "a") for _ in range(3)] == ["a@3"] * 3
    assert label(models, "a@2") == "a@2"
    assert registry.asked == ["a", "a@2"]
    assert registry.loads == {"a@3": 1, "a@2": 1}


def test_after_a_change_it_is_asked_for_again_and_others_are_not(registry: Registry) -> None:
    registry.versions |= {"a": 1, "b": 1}
    models = registry.models()
    assert (label(models, "a"), label(models, "b")) == ("a@1", "b@1")
    registry.versions["a"] = 2
    models.forget(registry.changed("a"))
    assert (label(models, "a"), label(models, "b")) == ("a@2", "b@1")
    assert registry.asked == ["a", "b", "a"]
    registry.versions["a"] = 1  # and back: it is loaded still
    models.forget(registry.changed("a"))
    assert label(models, "a") == "a@1"
    assert registry.loads["a@1"] == 1


def test_what_was_found_before_a_change_that_came_first_is_not_kept(registry: Registry) -> None:
    registry.versions["a"] = 1
    models = registry.models()
    models.forget(registry.changed("a"))
    registry.generation = 0  # the host had looked before it announced the change
    assert label(models, "a") == "a@1"
    registry.versions["a"], registry.generation = 2, 1
    assert label(models, "a") == "a@2"


def test_where_there_is_none_the_default_is_given_until_there_is_one(registry: Registry) -> None:
    models = registry.models()
    assert models.get("a", None, is_own=False) is None
    with pytest.raises(NoModelError, match="'a' has no version"):
        models.get("a", REQUIRED, is_own=False)
    assert registry.asked == ["a"]
    registry.versions["a"] = 1
    models.forget(registry.changed("a"))
    assert models.get("a", None, is_own=False) == {"label": "a@1"}


def test_a_task_is_given_a_copy_of_its_own(registry: Registry) -> None:
    registry.versions["a"] = 1
    models = registry.models()
    own, shared = models.get("a", is_own=True), models.get("a", is_own=False)
    own["label"] = "changed"
    assert shared == models.get("a", is_own=False) == {"label": "a@1"}


def test_the_newest_version_is_asked_for_each_time(registry: Registry) -> None:
    registry.versions["a"] = 1
    models = registry.models()
    assert label(models, "a@latest") == "a@1"
    registry.versions["a"] = 2  # published, and not in production: no record has changed
    assert label(models, "a@latest") == "a@2"


def test_of_many_names_the_last_are_remembered(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "MOST_NAMES", 10)
    models = registry.models()
    for number in range(50):
        models.get(f"a{number}", None, is_own=False)
    assert len(models._known) == 10


def test_a_thousand_customers_over_twenty_loaded_have_the_hits_of_an_ideal_lru(
    registry: Registry,
) -> None:
    customers = [f"churn-{number}" for number in range(1000)]
    registry.versions |= dict.fromkeys(customers, 1)
    weights = [1 / rank for rank in range(1, 1001)]
    drawn = random.Random(7).choices(customers, weights, k=20_000)
    models, ideal, misses = registry.models(most=20), OrderedDict[str, None](), 0
    for name in drawn:
        models.get(name, is_own=False)
        misses += name not in ideal
        ideal[name] = None
        ideal.move_to_end(name)
        if len(ideal) > 20:
            ideal.popitem(last=False)
        assert len(models._loaded) <= 20
    assert sum(registry.loads.values()) == misses


def test_where_memory_is_short_one_goes_for_each_that_comes(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.versions |= dict.fromkeys("abcdef", 1)
    used = 0
    monkeypatch.setattr(named, "resident", lambda: used)
    models = registry.models(most=20, memory_mb=100)
    for name in "abc":
        label(models, name)
    used = 80 << 20
    for name in "def":
        label(models, name)
        assert len(models._loaded) == 3
    assert [name for name, _ in models._loaded] == ["d", "e", "f"]


# --- served ----------------------------------------------------------------------------------


class Customers(Serving):
    """Serves with a registry in the host's place."""

    registry: Registry

    def calls(self, function: Any) -> ServedFunction:
        served = super().calls(function)
        served.named = self.registry.models()
        return served


@pytest.fixture
def customers(serving: Serving, registry: Registry) -> Any:
    made: Any = serving
    made.__class__, made.registry = Customers, registry
    registry.versions |= {"churn-acme": 3, "churn-bolt": 1}
    return made


ByCustomer = Annotated[dict[str, str], skipper.Loaded("churn-{customer}")]


@skipper.inference
def predict(customer: str, *, model: ByCustomer) -> str:
    return model["label"]


def test_each_call_is_given_its_customers_model_and_says_which(customers: Customers) -> None:
    acme, bolt = call({"customer": "acme"}), call({"customer": "bolt"}, id_=2)
    assert customers.answers(predict, acme, bolt) == [
        Reply(Outcome.OK, f"{CODE} churn-acme@3", "churn-acme@3"),
        Reply(Outcome.OK, f"{CODE} churn-bolt@1", "churn-bolt@1"),
    ]


@pytest.mark.parametrize("customer", ["nobody", "acme@1", "../x", "", "a b", "x" * 70])
def test_a_customer_without_a_model_is_told_so(customers: Customers, customer: str) -> None:
    answer = customers.answer(predict, call({"customer": customer}))
    assert answer.outcome == Outcome.NO_MODEL
    assert "model" in answer.value["detail"]


class Order(BaseModel):
    customer: str
    amount: float = 0.0


@skipper.inference
def of_a_model(order: Order, *, model: ByCustomer) -> str:
    return model["label"]


@skipper.inference
async def awaited(customer: str = "bolt", *, model: ByCustomer) -> str:
    return model["label"]


def test_the_name_is_filled_from_a_field_of_the_body_and_from_a_default(
    customers: Customers,
) -> None:
    assert customers.answer(of_a_model, call({"customer": "acme"})).value == "churn-acme@3"


def test_async_functions_and_defaults_fill_it_too(customers: Customers) -> None:
    assert customers.answer(awaited, call({})).value == "churn-bolt@1"


@skipper.inference
def with_default(
    x: int = 0, *, model: Annotated[Any, skipper.Loaded("boston", default=None)]
) -> str:
    return "none" if model is None else str(model["label"])


def test_a_model_with_a_default_is_not_needed(customers: Customers) -> None:
    assert customers.answer(with_default, call({})).value == "none"
    assert with_default() == "none"  # type: ignore[call-arg] # it is injected


def test_a_model_with_a_default_is_no_model_that_the_function_waits_for() -> None:
    spec = with_default.spec("c")
    assert (spec.models, spec.models_by_call) == ((), ("boston",))


@skipper.inference
def streams(customer: str, *, model: ByCustomer) -> Iterator[str]:
    yield model["label"]
    if customer == "bolt":
        raise ValueError("half way")


@skipper.inference
async def streams_awaited(customer: str, *, model: ByCustomer) -> AsyncIterator[str]:
    yield model["label"]
    if customer == "bolt":
        raise ValueError("half way")


@pytest.mark.parametrize("function", [streams, streams_awaited])
def test_streams_and_failures_say_which_model_it_was(customers: Customers, function: Any) -> None:
    frames_ = customers.run(function, call({"customer": "bolt"}, flags=calls.STREAM))
    (served,) = (frame.payload for frame in frames_ if frame.kind == FrameKind.SERVED)
    assert served.decode() == f"{CODE} churn-bolt@1"
    (last,) = (frame for frame in frames_ if frame.kind == FrameKind.REPLY)
    outcome, by, _ = calls.parse_reply(last.payload)
    assert (outcome, by.decode()) == (Outcome.FAILED, f"{CODE} churn-bolt@1")


@skipper.inference(batch=8)
def in_batches(customer: list[str], *, model: ByCustomer) -> list[str]:
    assert {f"churn-{each}" for each in customer} == {model["label"].partition("@")[0]}
    return [f"{model['label']} of {len(customer)}" for _ in customer]


def test_batches_are_of_one_model_each(customers: Customers) -> None:
    sent = ["acme", "bolt", "acme", "no", "acme"]
    whole = b"".join(
        frames.pack(*call({"customer": each}, id_=id_)) for id_, each in enumerate(sent, 1)
    )
    answers = customers.answers(in_batches, (FrameKind.BATCH, 0, whole))
    assert [(each.outcome, each.served) for each in answers] == [
        (Outcome.OK, f"{CODE} churn-acme@3"),
        (Outcome.OK, f"{CODE} churn-bolt@1"),
        (Outcome.OK, f"{CODE} churn-acme@3"),
        (Outcome.NO_MODEL, CODE),
        (Outcome.OK, f"{CODE} churn-acme@3"),
    ]
    assert answers[0].value == "churn-acme@3 of 3"


@skipper.inference
def loads(name: str) -> str:
    return str(skipper.load(name)["label"])


@skipper.training
def challenges(*, run: skipper.Run) -> list[str]:
    champion, none = run.model("churn-acme"), run.model("none", default=None)
    return [champion["label"], str(none), run.model("churn-acme@1")["label"]]


def test_a_function_loads_by_name(
    customers: Customers, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skipper.function.named._source", InstanceModels(registry.models()))
    answer = customers.answer(loads, call({"name": "churn-acme"}))
    assert (answer.served, answer.value) == (f"{CODE} churn-acme@3", "churn-acme@3")


def test_a_training_is_given_what_serves(customers: Customers) -> None:
    context = calls.task_context("t", 1, "r")
    answer = customers.answer(challenges, call(flags=calls.TASK, context=context))
    assert answer.value == ["churn-acme@3", "None", "churn-acme@1"]
    assert answer.served == f"{CODE} churn-acme@3 churn-acme@1"


def test_outside_of_an_instance_there_are_no_models() -> None:
    with pytest.raises(skipper.NotConnectedError):
        skipper.load("a")
    with pytest.raises(skipper.NotConnectedError):
        skipper.Run().model("a")
