import json
import types
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, assert_type

import pytest

import skipper
from skipper.cron import Missed, Timetable
from skipper.errors import DefinitionError, NotConnectedError
from skipper.function.decorators import Function, connect_to, defined_in
from skipper.spec import FunctionSpec
from skipper.values.opening import NO_PLACES


class Asked:
    """A runtime that notes what it is asked, and answers each call with a number."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.detached: list[str] = []

    places = NO_PLACES

    def _note(self, name: str, body: bytes) -> int:
        self.calls.append((name, json.loads(body)))
        return len(self.calls)

    def call(self, name: str, body: bytes) -> bytes:
        return b"%d" % self._note(name, body)

    async def call_async(self, name: str, body: bytes) -> bytes:
        return b"%d" % self._note(name, body)

    def spawn(self, name: str, body: bytes, *, detach: bool = False) -> "Started":
        if detach:
            self.detached.append(name)
        return Started(self._note(name, body))


class Started:
    def __init__(self, number: int) -> None:
        self.id = f"task-{number}"
        self._value = number

    def result(self, timeout: float | None = None) -> bytes:
        del timeout
        return b"%d" % self._value


@pytest.fixture
def runtime() -> Iterator[Asked]:
    asked = Asked()
    connect_to(asked)
    yield asked
    connect_to(None)


@skipper.inference
def double(x: int, times: int = 2) -> int:
    """Doubles a number.

    Or more.
    """
    return x * times


@skipper.training(pool="gpu", timeout="1h30m", retries=2, memory="2GB")
def train(*, run: skipper.Run, net: Annotated[object, skipper.Loaded("old")] = None) -> int:
    del net
    run.progress(1, 2)
    return run.attempt


# --- here ----------------------------------------------------------------------------------


def test_a_decorated_function_still_runs_here() -> None:
    assert double(3) == 6
    assert double(3, times=3) == 9
    assert vars(double)["__name__"] == "double"
    assert str(double.__doc__).startswith("Doubles")


def test_a_run_is_made_up_for_a_call_here_unless_one_is_given() -> None:
    assert train() == 1  # type: ignore[call-arg] # injected
    assert train(run=skipper.Run(attempt=4)) == 4


def test_a_class_is_set_up_once_and_keeps_its_state() -> None:
    made = []

    @skipper.data
    class Counter:
        def __init__(self) -> None:
            made.append(self)
            self.n = 0

        def __call__(self, by: int) -> int:
            self.n += by
            return self.n

    function: Function[..., Any] = Counter  # type: ignore[assignment] # a class, decorated
    assert made == []
    assert [function(1), function(2), function(3)] == [1, 3, 6]
    assert len(made) == 1


# --- what it declares ----------------------------------------------------------------------


def test_a_spec_has_what_was_declared() -> None:
    spec = train.spec("c0de")
    assert (spec.name, spec.kind, spec.mode) == ("test_decorators.train", "training", "task")
    assert (spec.pool, spec.timeout_s, spec.retries, spec.memory_mb) == ("gpu", 5400.0, 2, 2048)
    assert (spec.code, spec.models, spec.file) == ("c0de", ("old",), __file__)


def test_a_spec_has_how_its_tasks_are_treated() -> None:
    @skipper.training(
        start_timeout="20s",
        retries=3,
        retry_on=("Timeout", OSError),
        backoff="10s",
        expires="1h",
        priority=-3,
    )
    def patient() -> None: ...

    spec = patient.spec("c0de")
    assert (spec.start_timeout_s, spec.backoff_s, spec.expires_s) == (20.0, 10.0, 3600.0)
    assert (spec.retry_on, spec.priority) == (("Timeout", "OSError"), -3)
    usual = double.spec("c0de")
    assert (usual.start_timeout_s, usual.backoff_s, usual.expires_s) == (None, 1.0, None)
    assert (usual.retry_on, usual.priority) == ((), 0)


def test_a_spec_without_options_has_the_kinds_defaults() -> None:
    spec = double.spec("c0de")
    assert (spec.kind, spec.mode, spec.pool, spec.timeout_s) == ("inference", "direct", "cpu", None)
    assert (spec.retries, spec.max_attempts, spec.batch) == (0, 1, 1)
    assert spec.summary == "Doubles a number."
    assert Path(spec.file).read_text().splitlines()[spec.line - 1] == "@skipper.inference"


def test_a_spec_survives_the_wire() -> None:
    spec = train.spec("c0de")
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("decorate", "kind", "mode"),
    [
        (skipper.data, "data", "direct"),
        (skipper.inference, "inference", "direct"),
        (skipper.training, "training", "task"),
        (skipper.training(mode="direct"), "training", "direct"),
        (skipper.inference(mode="task"), "inference", "task"),
    ],
)
def test_training_is_a_task_unless_declared_otherwise(decorate: Any, kind: str, mode: str) -> None:
    def f() -> None: ...

    spec = decorate(f).spec("")
    assert (spec.kind, spec.mode) == (kind, mode)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("functions.boston", "boston.f"),
        ("functions.house.price", "house.f"),
        ("skipper_tabular.tabular", "tabular.f"),
        ("alone", "alone.f"),
        ("__main__", "test_decorators.f"),
    ],
)
def test_a_function_is_named_after_its_file_or_package(module: str, name: str) -> None:
    def f() -> None: ...

    f.__module__ = module
    assert skipper.data(f).name == name


def test_a_wrong_option_is_an_error_with_the_functions_line() -> None:
    def f() -> None: ...

    with pytest.raises(DefinitionError, match="did you mean 'timeout'") as caught:
        skipper.data(timout=3)(f)  # type: ignore[call-overload] # on purpose
    assert (caught.value.file, caught.value.line) == (__file__, f.__code__.co_firstlineno)


def nothing() -> None: ...


def all_optional(x: int = 1, *, run: skipper.Run) -> None: ...


def in_need(x: int, y: int = 1) -> None: ...


def listing(x: list[int]) -> list[int]:
    return x


class Settled:
    def __call__(self, x: int = 1) -> int:
        return x


@pytest.mark.parametrize("target", [nothing, all_optional, Settled])
@pytest.mark.parametrize("decorate", [skipper.data, skipper.training, skipper.inference])
def test_whatever_runs_without_input_may_have_a_schedule(decorate: Any, target: Any) -> None:
    function = decorate(schedule="0 3 * * *", timezone="Europe/Vilnius", missed="skip")(target)
    spec = function.spec("c0de")
    assert spec.schedule == Timetable(
        cron="0 3 * * *", timezone="Europe/Vilnius", missed=Missed.SKIP
    )
    assert FunctionSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(("target", "options"), [(in_need, {}), (listing, {"batch": 2})])
def test_a_schedule_of_what_needs_input_is_refused_with_what_to_write(
    target: Any, options: Any
) -> None:
    function = skipper.data(schedule="0 3 * * *", **options)(target)
    with pytest.raises(DefinitionError, match="needs input") as caught:
        function.spec("c0de")
    assert "[schedules]" in str(caught.value)
    assert (caught.value.file, caught.value.line) == (__file__, function.line)


def test_a_signature_that_cannot_be_called_is_an_error_with_name_and_line() -> None:
    @skipper.data
    def f(*values: int) -> None: ...

    with pytest.raises(DefinitionError, match=r"test_decorators\.f: \*values") as caught:
        f.spec("")
    assert (caught.value.file, caught.value.line) == (__file__, f.line)


@pytest.mark.parametrize(
    ("decorate", "message"),
    [
        (skipper.training(max=1), "max= counts for direct calls"),
        (skipper.training(min=1), "min= counts for direct calls"),
        (skipper.training(recycle=9), "How many tasks run at once is said by concurrency="),
        (skipper.data(mode="task", batch=8), "batch= counts for direct calls"),
        (skipper.data(concurrency=1), "concurrency= counts for tasks"),
        (skipper.inference(concurrency=1), "write mode='task'"),
        (skipper.training(mode="direct", concurrency=1), "concurrency= counts for tasks"),
    ],
)
def test_an_option_that_never_counts_is_an_error_that_names_the_one_that_does(
    decorate: Any, message: str
) -> None:
    """A bound that bounds nothing: https://github.com/PrefectHQ/prefect/issues/12015."""

    def named(x: list[int]) -> list[int]:
        return x

    with pytest.raises(DefinitionError, match=message) as caught:
        decorate(named).spec("c0de")
    assert caught.value.line == named.__code__.co_firstlineno


def test_a_training_that_is_called_directly_may_have_what_direct_calls_have() -> None:
    def small(x: int) -> int:
        return x

    assert skipper.training(mode="direct", max=1)(small).spec("c0de").max_instances == 1


def test_tasks_are_bounded_by_a_member_of_the_body() -> None:
    def train(customer: str, epochs: int = 1) -> None:
        del customer, epochs

    spec = skipper.training(concurrency=2, concurrency_key="customer")(train).spec("c0de")
    assert (spec.concurrency, spec.concurrency_key) == (2, "customer")
    wrong = skipper.training(concurrency=2, concurrency_key="client")(train)
    with pytest.raises(DefinitionError, match="has no such member; it has customer, epochs"):
        wrong.spec("c0de")


@pytest.mark.parametrize("thing", [3, "f", [len]])
def test_only_functions_and_classes_can_be_decorated(thing: Any) -> None:
    with pytest.raises(DefinitionError, match="stands before a function or a class"):
        skipper.data(thing)


def test_the_functions_of_a_module_come_in_the_order_of_their_definition() -> None:
    for name in ("b", "a"):
        define(name, "in_order")
    assert [f.name for f in defined_in("functions.in_order")] == ["in_order.b", "in_order.a"]
    assert defined_in("functions.nowhere") == []


def test_a_name_defined_twice_is_refused() -> None:
    define("f", "twice")
    define("f", "twice")
    with pytest.raises(DefinitionError, match=r"twice\.f is defined twice, on lines \d+ and \d+"):
        defined_in("functions.twice")


def define(name: str, stem: str) -> None:
    def f() -> None: ...

    f.__name__, f.__module__ = name, f"functions.{stem}"
    skipper.data(f)


# --- batches -------------------------------------------------------------------------------


def all_doubled(x: list[int]) -> list[int]:
    return [2 * one for one in x]


@pytest.mark.parametrize("named", ["all_doubled", all_doubled])
def test_another_function_may_take_the_batches_of_one_of_single_items(named: Any) -> None:
    @skipper.inference(batch=8, batch_with=named)
    def single(x: int) -> int:
        return 2 * x

    assert single.batch_target is all_doubled
    assert single(4) == 8
    assert single.signature.parse(b'{"x": 4}') == {"x": 4}
    assert single.spec("").batch == 8


def test_without_another_the_function_takes_the_lists_itself() -> None:
    @skipper.inference(batch=8, batch_wait="5ms")
    def listed(x: list[int]) -> list[int]:
        return x

    assert listed.batch_target is None
    assert listed.signature is listed.batch_signature
    assert listed.signature.parse(b'{"x": 4}') == {"x": 4}
    assert listed.spec("").batch_wait_s == 0.005


def test_a_batch_function_that_is_not_there_is_an_error_with_the_functions_line() -> None:
    @skipper.inference(batch=8, batch_with="nowhere")
    def single(x: int) -> int:
        return x

    with pytest.raises(DefinitionError, match="defines no such function") as caught:
        single.spec("")
    assert caught.value.line == single.line


async def awaited(x: int) -> int:
    return x


def counted(x: int) -> Iterator[int]:
    yield x


async def awaited_count(x: int) -> AsyncIterator[int]:
    yield x


def with_run(x: int, *, run: skipper.Run) -> int:
    return x


def with_other_names(y: int) -> int:
    return y


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (awaited, "no async def"),
        (counted, "no generator"),
        (awaited_count, "no generator"),
        (with_run, "no Run"),
        (with_other_names, "all_doubled takes x where it must take lists of y"),
    ],
)
def test_a_batch_function_that_cannot_stand_for_the_single_one_is_refused(
    target: Any, message: str
) -> None:
    function = skipper.inference(batch=8, batch_with=all_doubled)(target)
    with pytest.raises(DefinitionError, match=message) as caught:
        function.spec("")
    assert caught.value.line == function.line


# --- elsewhere -----------------------------------------------------------------------------


def test_remote_asks_the_runtime_with_the_arguments_as_json(runtime: Asked) -> None:
    assert double.remote(3, times=4) == 1
    assert runtime.calls == [("test_decorators.double", {"x": 3, "times": 4})]


async def test_aremote_asks_the_same(runtime: Asked) -> None:
    assert await double.aremote(3) == 1
    assert runtime.calls == [("test_decorators.double", {"x": 3})]


def test_what_is_spawned_is_cancelled_with_its_starter_unless_it_is_detached(
    runtime: Asked,
) -> None:
    handles = [double.spawn(3), double.spawn_detached(4)]
    assert [handle.id for handle in handles] == ["task-1", "task-2"]
    assert (runtime.detached, runtime.calls[1]) == ([double.name], (double.name, {"x": 4}))


def test_spawn_returns_a_task(runtime: Asked) -> None:
    handle = double.spawn(3)
    assert (handle.id, handle.result()) == ("task-1", 1)
    assert runtime.calls == [("test_decorators.double", {"x": 3})]


def test_map_starts_all_before_it_waits_and_keeps_the_order(runtime: Asked) -> None:
    assert double.map([5, 6, 7]) == [1, 2, 3]
    assert [body for _, body in runtime.calls] == [{"x": 5}, {"x": 6}, {"x": 7}]


def test_map_takes_several_iterables_tuples_and_dicts(runtime: Asked) -> None:
    assert double.map([5, 6], [1, 2]) == [1, 2]
    assert double.starmap([(7, 3)]) == [3]
    assert double.map([{"x": 8, "times": 4}]) == [4]
    bodies = [{"x": 5, "times": 1}, {"x": 6, "times": 2}, {"x": 7, "times": 3}]
    assert [body for _, body in runtime.calls] == [*bodies, {"x": 8, "times": 4}]


def test_map_takes_no_more_of_a_generator_than_is_under_way(runtime: Asked) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(1000):
            taken.append(n)
            yield n
            if n == 200:
                raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        double.map(items())
    assert len(taken) == 201


def test_what_remote_spawn_and_map_give_is_of_the_functions_type(runtime: Asked) -> None:
    assert_type(double.remote(3), int)
    assert_type(double.spawn(3).result(), int)
    assert_type(double.map([3]), list[int])
    assert_type(double.map([3], [4], return_exceptions=True), list[int | Exception])
    assert_type(double.starmap([(3, 4)]), list[int])


def test_arguments_that_do_not_fit_are_refused_before_anybody_is_asked(runtime: Asked) -> None:
    with pytest.raises(TypeError, match="at most 2 arguments"):
        double.remote(1, 2, 3)  # type: ignore[call-arg] # on purpose
    assert runtime.calls == []


def test_without_a_runtime_only_calls_here_work() -> None:
    connect_to(None)
    assert double(1) == 2
    for act in (double.remote, double.spawn):
        with pytest.raises(NotConnectedError, match=r"skipper\.connect"):
            act(1)


# --- classes that are derived from decorated ones ---------------------------------------------


class Doubling:
    factor = 2

    def __call__(self, x: int) -> int:
        return self.factor * x


def test_a_class_can_be_derived_from_one_that_is_served() -> None:
    doubled: Any = skipper.data(Doubling)
    names_of_ours = {"factor": 3, "__module__": __name__}
    derived = types.new_class(
        "Tripling", (doubled,), exec_body=lambda names: names.update(names_of_ours)
    )
    tripled: Any = skipper.data(derived)
    assert issubclass(derived, Doubling)
    assert (doubled(2), tripled(2), tripled.name) == (4, 6, "test_decorators.Tripling")


def test_nothing_is_derived_from_a_function() -> None:
    @skipper.data
    def plain() -> int:
        return 1

    with pytest.raises(DefinitionError, match="is a function"):
        types.new_class("Derived", (plain,))
