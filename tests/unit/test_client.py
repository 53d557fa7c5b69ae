"""The clients against a real HTTP server: what holds for the blocking one holds for the async."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

import skipper
from skipper.client import AsyncClient, Client
from skipper.client.events import EventParser, ItemReader
from skipper.client.messages import Reply, merged, to_body
from skipper.client.problems import checked, task_error
from skipper.errors import (
    CallError,
    CancelledError,
    ConflictError,
    DeadlineError,
    DeploymentError,
    FunctionError,
    InstanceDiedError,
    InvalidInputError,
    NotFoundError,
    SettingsError,
    SkipperError,
    UnavailableError,
    UnfitError,
)
from skipper.function.decorators import connect_to
from skipper.task import State
from tests.unit.cli.stand_in import StandIn, free_port, serving


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with serving() as stand_in:
        yield stand_in


@pytest.fixture
def gateway(server: StandIn) -> StandIn:
    return server.reset()


class Blocking:
    """An asyncio client or handle whose verbs are run to their end."""

    def __init__(self, runner: asyncio.Runner, inner: Any) -> None:
        self._runner, self._inner = runner, inner

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._inner, name)
        return self._blocking(member) if inspect.ismethod(member) else member

    def _blocking(self, member: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            value = self._runner.run(self._finish(member(*args, **kwargs)))
            return Blocking(self._runner, value) if hasattr(value, "result") else value

        return run

    @staticmethod
    async def _finish(value: Any) -> Any:
        return [item async for item in value] if hasattr(value, "__aiter__") else await value


@pytest.fixture(params=["blocking", "asyncio"])
def make(request: pytest.FixtureRequest, gateway: StandIn) -> Iterator[Any]:
    """Makes clients of the stand-in."""
    if request.param == "blocking":
        with ExitStack() as stack:
            yield lambda **options: stack.enter_context(
                Client(options.pop("url", gateway.url), **options)
            )
        return
    with asyncio.Runner() as runner:

        async def made(**options: Any) -> AsyncClient:
            return AsyncClient(options.pop("url", gateway.url), **options)

        clients = []

        def make(**options: Any) -> Blocking:
            clients.append(Blocking(runner, runner.run(made(**options))))
            return clients[-1]

        yield make
        for client in clients:
            client.close()


@pytest.fixture
def client(make: Any) -> Any:
    return make()


# --- calls ---


def test_a_direct_call_returns_the_value(client: Any) -> None:
    assert client.call("plain.echo", {"rm": 6.5}, lstat=None) == {"rm": 6.5, "lstat": None}


def test_bytes_in_place_of_a_body_are_json_already(client: Any) -> None:
    assert client.call("plain.echo", b'{"raw": 1}') == {"raw": 1}


def test_a_call_without_a_body_sends_an_empty_object(client: Any) -> None:
    assert client.call("plain.echo") == {}


def test_a_call_answered_with_a_task_waits_for_its_result(client: Any) -> None:
    assert client.call("train.ok", epochs=3) == {"trained": {"epochs": 3}}


def test_a_gateway_that_does_not_wait_is_polled(client: Any, gateway: StandIn) -> None:
    gateway.waits = False
    assert client.call("train.ok") == {"trained": {}}
    assert len(gateway.asked("/v1/tasks/")) > 2


def test_map_keeps_the_order(client: Any) -> None:
    bodies = [{"rm": n} for n in range(40)]
    assert client.map("plain.echo", bodies) == bodies
    assert client.map("plain.echo", iter(range(40))) == bodies
    assert client.starmap("plain.echo", [(n,) for n in range(40)]) == bodies
    assert client.map("plain.echo", [House(rm=2)]) == [{"rm": 2.0}]


def test_map_takes_an_iterable_per_parameter(client: Any) -> None:
    with pytest.raises(TypeError, match=r"item 0: at most 1 arguments \(rm\), not 2"):
        client.map("plain.echo", [1], [2])
    with pytest.raises(ValueError, match="longer"):
        client.map("plain.echo", [], [2])
    with pytest.raises(NotFoundError):
        client.map("nowhere.at", [1])


def test_map_raises_the_first_error_and_begins_no_more(client: Any, gateway: StandIn) -> None:
    taken: list[int] = []
    with pytest.raises(FunctionError, match="item 0: ") as caught:
        client.map("plain.boom", (taken.append(n) or n for n in range(500)))  # type: ignore[func-returns-value] # for its effect
    assert caught.value.item is not None
    assert caught.value.problem["status"] == 500
    assert gateway.calls["plain.boom"] < 250
    assert len(taken) < 250


def test_map_keeps_errors_among_the_values_where_they_are_wanted(client: Any) -> None:
    values = client.map("plain.boom", range(20), return_exceptions=True)
    assert [value.item for value in values] == list(range(20))
    assert client.map("plain.echo", [{"rm": 1}], return_exceptions=True) == [{"rm": 1}]


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("plain.strict", InvalidInputError, 422),
        ("nowhere.at", NotFoundError, 404),
        ("plain.boom", FunctionError, 500),
        ("plain.died", InstanceDiedError, 502),
        ("plain.broken", UnavailableError, 503),
        ("plain.late", DeadlineError, 504),
        ("plain.bug", CallError, 500),
        ("plain.proxy", UnavailableError, 502),
    ],
)
def test_an_error_has_the_class_of_its_status_and_holds_the_problem(
    client: Any, name: str, kind: type[SkipperError], status: int
) -> None:
    with pytest.raises(kind) as caught:
        client.call(name)
    assert type(caught.value) is kind
    assert caught.value.problem["status"] == status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidInputError),
        (401, CallError),
        (404, NotFoundError),
        (409, CallError),
        (410, NotFoundError),
        (413, InvalidInputError),
        (415, InvalidInputError),
        (418, CallError),
        (422, InvalidInputError),
        (429, UnavailableError),
        (500, FunctionError),
        (502, InstanceDiedError),
        (503, UnavailableError),
        (504, DeadlineError),
    ],
)
def test_a_problem_of_an_unknown_type_has_the_class_of_its_status(
    status: int, kind: type[SkipperError]
) -> None:
    content = json.dumps({"type": "/problems/of-a-later-version", "detail": "d"}).encode()
    with pytest.raises(kind, match="d") as caught:
        checked(Reply(status=status, headers={}, content=content))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("failed", FunctionError),
        ("timed_out", DeadlineError),
        ("crashed", InstanceDiedError),
        ("cancelled", CancelledError),
        ("expired", DeadlineError),
    ],
)
def test_a_task_without_a_value_has_the_class_of_its_end(
    state: str, kind: type[SkipperError]
) -> None:
    error = task_error({"id": "t", "state": state})
    assert type(error) is kind
    assert str(error) == f"Task t ended {state}."


def test_an_invalid_input_names_the_member(client: Any) -> None:
    with pytest.raises(InvalidInputError, match="/rm: Input should be a valid number"):
        client.call("plain.strict")


def test_an_answer_that_is_not_json_is_an_error_in_words(client: Any) -> None:
    with pytest.raises(UnavailableError, match="not JSON"):
        client.call("plain.text")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train.fail", FunctionError),
        ("train.invalid", InvalidInputError),
        ("train.late", DeadlineError),
        ("train.crash", InstanceDiedError),
        ("train.expire", DeadlineError),
    ],
)
def test_a_task_without_a_value_raises_what_it_ended_with(
    client: Any, name: str, kind: type[CallError]
) -> None:
    with pytest.raises(kind) as caught:
        client.call(name)
    assert caught.value.problem["task_id"].startswith("task")


@pytest.mark.parametrize(
    ("verb", "meant"),
    [("submit", "spawn"), ("predict", "call"), ("modles", "models"), ("up_load", "upload")],
)
def test_a_verb_that_there_is_not_is_told_with_the_one_that_was_meant(
    client: Any, verb: str, meant: str
) -> None:
    with pytest.raises(AttributeError, match=f"has no '{verb}'; did you mean '{meant}'"):
        getattr(client, verb)


def test_an_invocation_takes_what_a_call_takes(client: Any) -> None:
    assert client.invoke("plain.echo", {"a": 1}).value == {"a": 1}
    assert client.invoke("plain.echo", b'{"a": 1}').value == {"a": 1}
    assert client.invoke("train.ok", {}).task["function"] == "train.ok"


# --- trying again ---


def test_a_refused_call_is_sent_again_when_the_gateway_names_a_time(
    client: Any, gateway: StandIn
) -> None:
    assert client.call("plain.busy") == 3


def test_a_refused_call_is_given_up_after_a_few_tries(client: Any, gateway: StandIn) -> None:
    with pytest.raises(UnavailableError, match="queue is full"):
        client.call("plain.full")
    assert gateway.calls["plain.full"] == 4


def test_what_a_second_try_will_not_change_is_raised_at_once(client: Any, gateway: StandIn) -> None:
    with pytest.raises(UnavailableError, match="does not load"):
        client.call("plain.broken")
    assert gateway.calls["plain.broken"] == 1


def test_a_call_that_may_have_run_is_never_sent_again(client: Any, gateway: StandIn) -> None:
    with pytest.raises(UnavailableError, match="may have run"):
        client.call("plain.dropped")
    assert gateway.calls["plain.dropped"] == 1


def test_a_spawn_whose_answer_was_lost_makes_one_task(client: Any, gateway: StandIn) -> None:
    before, gateway.drops = len(gateway.tasks), 2
    handle = client.spawn("train.ok")
    assert len(gateway.tasks) == before + 1
    assert handle.result() == {"trained": {}}


def test_waiting_for_a_task_outlives_lost_connections(client: Any, gateway: StandIn) -> None:
    handle = client.spawn("train.ok")
    gateway.drops = 2
    assert handle.result() == {"trained": {}}


def test_nothing_listening_is_raised_at_once(make: Any) -> None:
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="skipper up"):
        make(url=f"http://127.0.0.1:{free_port()}").call("plain.echo")
    assert time.monotonic() - began < 2


# --- time ---


def test_a_client_waits_as_long_as_its_timeout_and_no_longer(make: Any) -> None:
    with pytest.raises(DeadlineError):
        make(timeout=0.1).call("plain.slow")
    assert make(timeout=5).call("plain.slow") == "slow"


def test_result_with_a_timeout_leaves_the_task_running(client: Any) -> None:
    handle = client.spawn("train.forever")
    with pytest.raises(TimeoutError, match="goes on"):
        handle.result(timeout=0.2)
    assert handle.status()["state"] == "running"
    assert handle.cancel()


# --- tasks ---


def test_a_handle_knows_id_and_state(client: Any) -> None:
    handle = client.task(client.spawn("train.ok").id)
    handle.result()
    assert handle.state is State.SUCCEEDED


def test_an_unknown_task_is_not_found(client: Any) -> None:
    with pytest.raises(NotFoundError):
        client.task("nope")


def test_cancel_returns_whether_it_came_in_time(client: Any) -> None:
    handle = client.spawn("train.forever")
    assert handle.cancel() is True
    assert handle.cancel() is False
    with pytest.raises(CancelledError):
        handle.result()


def test_a_spawn_sends_when_and_how_urgently_it_is_to_run(client: Any, gateway: StandIn) -> None:
    handle = client.spawn("train.ok", x=1, priority=3, delay="90s", expires=5.5)
    headers = gateway.asked("train.ok")[0]
    sent = [headers[f"x-skipper-{name}"] for name in ("priority", "delay", "expires")]
    assert sent == ["3", "90s", "5.5"]
    assert gateway.tasks[handle.id].body == {"x": 1}


def test_a_retry_is_another_task_with_the_same_input(client: Any, gateway: StandIn) -> None:
    handle = client.spawn("train.ok", x=1)
    with pytest.raises(CallError, match="has not ended"):
        handle.retry()
    handle.result()
    fresh = handle.retry()
    assert fresh.id != handle.id
    assert fresh.result() == {"trained": {"x": 1}}


def test_attempts_are_listed(client: Any) -> None:
    handle = client.spawn("train.ok")
    handle.result()
    assert [attempt["outcome"] for attempt in handle.attempts()] == ["lost", "succeeded"]


def test_events_come_in_order_up_to_done(client: Any) -> None:
    events = list(client.spawn("train.ok").events())
    assert [event.type for event in events] == ["state", "log", *["progress"] * 3, "done"]
    assert events[1].data["text"] == "réading"


def test_an_event_stream_that_breaks_off_is_taken_up_where_it_ended(
    client: Any, gateway: StandIn
) -> None:
    events = list(client.spawn("train.flaky").events())
    assert [event.type for event in events] == ["state", "log", *["progress"] * 3, "done"]
    last_ids = [headers.get("last-event-id") for headers in gateway.asked("/events")]
    assert last_ids[:3] == [None, "2", "4"]


def test_events_go_on_after_one_that_was_seen_earlier(client: Any) -> None:
    handle = client.spawn("train.ok")
    events = list(handle.events())
    assert list(handle.events(after=events[1].id)) == events[2:]
    assert list(handle.events(after=events[-1].id)) == []


def test_logs_are_what_the_function_printed(client: Any) -> None:
    handle = client.spawn("train.ok")
    handle.result()
    assert [line["text"] for line in handle.logs()] == ["réading"]
    assert handle.logs(attempt=2) == []


# --- lists, keys, addresses ---


def test_functions_and_models_are_listed_page_by_page(client: Any) -> None:
    assert "plain.echo" in [function["name"] for function in client.functions()]
    assert [model["name"] for model in client.models()] == ["boston", "digits"]


def test_which_version_serves_is_read_and_changed(client: Any, gateway: StandIn) -> None:
    assert client.deployment("boston")["production"] == 2
    made = client.promote("boston", 1, why="smaller", follows=2)
    assert (made["production"], made["previous"], made["revision"]) == (1, 2, 3)
    assert client.deployments("boston")[0]["why"] == "smaller"
    assert client.promote("boston", "previous", percent=10)["candidate"] == 2
    ended = client.change_deployment("boston", {"candidate": None}, follows=4)
    assert (ended["candidate"], ended["percent"]) == (None, 0)
    assert client.set_alias("boston", "best", "production")["aliases"] == {"best": 1}
    assert client.model_version("boston", 1)["aliases"] == ["best"]
    assert client.delete_alias("boston", "best")["aliases"] == {}
    assert client.roll_back("boston", follows=7)["production"] == 2
    assert "if-match" not in gateway.asked("/aliases/")[0]


def test_what_cannot_serve_is_an_error_of_its_own(client: Any) -> None:
    with pytest.raises(ConflictError, match="at revision 2") as conflict:
        client.promote("boston", 1, follows=1)
    assert conflict.value.problem["deployment"]["production"] == 2
    with pytest.raises(UnfitError, match="version 3 of 'boston' is unfit"):
        client.promote("boston", 3)
    with pytest.raises(DeploymentError, match="percent is of a candidate"):
        client.change_deployment("boston", {"percent": 5})
    with pytest.raises(NotFoundError, match="no 9"):
        client.promote("boston", 9)
    with pytest.raises(NotFoundError, match="no model"):
        client.deployment("none")


def test_a_rollback_whose_answer_was_lost_is_not_sent_again(client: Any, gateway: StandIn) -> None:
    gateway.models.drops = 1
    with pytest.raises(UnavailableError):
        client.roll_back("boston")
    assert gateway.models.held.production == 1


def test_schedules_are_listed_paused_and_resumed(client: Any) -> None:
    assert [each["name"] for each in client.schedules()] == ["train.ok", "weekly", "odd"]
    assert client.pause_schedule("train.ok")["state"] == "paused"
    assert client.resume_schedule("train.ok")["state"] == "active"
    with pytest.raises(NotFoundError):
        client.pause_schedule("nope")


def test_a_schedule_is_run_once_and_gives_a_task(client: Any, gateway: StandIn) -> None:
    assert client.run_schedule("weekly").result() == {"trained": {}}
    gateway.drops = 1
    with pytest.raises(UnavailableError):
        client.run_schedule("weekly")
    assert gateway.calls["run weekly"] == 2


def test_the_key_is_sent(make: Any, gateway: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.key = "sesame"
    with pytest.raises(CallError) as caught:
        make().functions()
    assert caught.value.problem["status"] == 401
    assert make(api_key="sesame").functions()
    monkeypatch.setenv("SKIPPER_API_KEY", "sesame")
    assert make().functions()


def test_the_environment_names_the_gateway(
    gateway: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIPPER_URL", gateway.url)
    with Client() as client:
        assert client.call("plain.echo", 1) == 1


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "127.0.0.1", "http://", "http://a:b/", "unix:", "unix:a.sock", "unix://a/b"],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="url"):
        Client(url)


def test_a_proxy_in_the_environment_is_not_used(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert make().call("plain.echo", 1) == 1


def test_importing_the_client_does_not_import_httpx() -> None:
    code = "import sys, skipper.client; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_connected_process_asks_the_gateway_for_its_functions(gateway: StandIn) -> None:
    def echo(x: int) -> dict[str, Any]:
        raise AssertionError(f"called here, with {x}")

    echo.__module__ = "functions.plain"
    function = skipper.data(echo)
    with skipper.connect(gateway.url):
        assert function.remote(3) == {"x": 3}
        assert asyncio.run(function.aremote(4)) == {"x": 4}
        assert function.spawn(5).result() == {"trained": {"x": 5}}
    connect_to(None)


# --- bodies ---


class House(BaseModel):
    rm: float


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("body", "params", "expected"),
    [
        (None, {}, b"{}"),
        (None, {"a": 1}, b'{"a":1}'),
        ({"a": 1}, {"b": 2}, b'{"a":1,"b":2}'),
        ([1, 2], {}, b"[1,2]"),
        (House(rm=6.5), {}, b'{"rm":6.5}'),
        (Point(x=1), {}, b'{"x":1}'),
        ({"a": np.arange(3), "b": np.float32(0.5)}, {}, b'{"a":[0,1,2],"b":0.5}'),
        ({"a": [float("nan"), np.inf]}, {}, b'{"a":["NaN","Infinity"]}'),
    ],
)
def test_bodies_become_json(body: Any, params: dict[str, Any], expected: bytes) -> None:
    assert to_body(merged(body, params)) == expected


def test_what_is_not_json_is_refused_before_it_is_sent() -> None:
    with pytest.raises(TypeError, match=r"not JSON.*not object"):
        to_body(object())


def test_parameters_cannot_be_added_to_a_list() -> None:
    with pytest.raises(TypeError):
        merged([1], {"a": 1})


# --- server-sent events ---


def read(stream: bytes, size: int) -> list[tuple[str, str, str]]:
    parser = EventParser()
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    return [(e.id, e.type, e.data) for chunk in chunks for e in parser.feed(chunk)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_do_not_depend_on_chunks_and_line_ends(size: int, end: bytes) -> None:
    lines = [
        *("\ufeff: ping", "", "id: 1", "event: state", "data: a", "data:b", "", "data: é", ""),
        *(
            "id",
            "event: nothing",
            "",
            "data",
            "",
            "retry: 1500",
            "unknown: x",
            "data:  two",
            "",
            "",
        ),
        *("data: broke off",),
    ]
    stream = end.join(line.encode() for line in lines)
    assert read(stream, size) == [
        ("1", "state", "a\nb"),
        ("1", "message", "é"),
        ("", "message", ""),
        ("", "message", " two"),
    ]


def test_an_event_that_broke_off_does_not_count_as_seen() -> None:
    parser = EventParser()
    parser.feed(b"id: 1\ndata: x\n\nid: 2\nretry: 250\ndata: y\n")
    assert (parser.last_id, parser.retry_s) == ("1", 0.25)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_items_are_read_up_to_done_an_error_or_a_break(size: int) -> None:
    def items(stream: bytes) -> list[Any]:
        reader, found = ItemReader(), []
        for at in range(0, len(stream), size):
            found += reader.feed(stream[at : at + size])
            reader.check()
        reader.end()
        return found

    begun = b"event: item\ndata: 1\n\n: ping\n\nevent: item\ndata: null\n\n"
    assert items(begun + b"event: done\ndata: {}\n\n") == [1, None]
    with pytest.raises(UnavailableError, match="broke off"):
        items(begun)
    with pytest.raises(DeadlineError, match="late"):
        items(begun + b'event: error\ndata: {"status": 504, "detail": "late"}\n\n')


# --- what is secret ---


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("SESAME-0123456789\n", "line break"),
        ("SESAME 0123456789", "blanks"),
        ("SESAME-0123456789 ", "blanks"),
        ("SESAMÉ-0123456789", "ASCII"),
        ("SESAME\x01", "ASCII"),
    ],
)
def test_a_key_that_no_header_carries_is_refused_without_being_shown(key: str, what: str) -> None:
    with pytest.raises(SettingsError, match=what) as caught:
        skipper.Client("http://127.0.0.1:1", api_key=key)
    assert "SESAM" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://u:SESAME@127.0.0.1:1",
        "http://SESAME@127.0.0.1:1",
        "http://127.0.0.1:1/?token=SESAME",
        "http://127.0.0.1:1/?SESAME",
        "http://u:SESAME#SESAME@127.0.0.1:1",
        "http://u:SESAME/SESAME@127.0.0.1:1",
        "http://u:SESAME@[127.0.0.1:1",
        "nonsense://SESAME@127.0.0.1:1",
        "unix://u:SESAME@127.0.0.1:1",
    ],
)
def test_what_is_secret_in_a_url_is_not_shown(url: str) -> None:
    with (
        pytest.raises((SettingsError, UnavailableError)) as caught,
        skipper.Client(url, api_key="SESAME-0123456789") as client,
    ):
        client.call("f.f")
    assert "SESAME" not in str(caught.value)
