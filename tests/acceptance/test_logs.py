"""What functions print and log, as the tree's log and a task's log tell it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.acceptance.tree import CPU_ALONE, Json, Tree, lent, project, until

LOGGED = """
import asyncio
import json
import logging
import logging.config
import os
import sys
import time

import skipper

log = logging.getLogger("prices")


@skipper.data
def plain():
    log.debug("too fine")
    log.info("read %d rows", 3)
    log.warning("two\\nlines")
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("could not divide")
    print("printed")


@skipper.data
def deep():
    print("at the bottom")
    log.info("logged at the bottom")


@skipper.data
def middle():
    return deep.remote()


@skipper.training
def nests():
    print("at the top")
    middle.remote()


@skipper.data
async def slow(name: str):
    print(f"{name} begins")
    await asyncio.sleep(0.3)
    print(f"{name} ends")
    log.info("%s logs", name)


@skipper.data
def raises():
    return {}["key"]


@skipper.data(retries=1, backoff=0.1)
def raises_again():
    return json.loads("{")


@skipper.data
def dies():
    os._exit(3)


@skipper.data(timeout=0.3)
def is_late():
    time.sleep(60)


# What tqdm, Keras, and pip and rich with colours write.
BARS = {
    "tqdm": ("\\r {n}%|#| {n}/7", "\\n"),
    "keras": ("\\b\\b\\b\\r\\x1b[1m{n}/7\\x1b[0m \\x1b[32m━━\\x1b[0m", "\\n"),
    "rich": ("\\r\\x1b[2K\\x1b[36m━━\\x1b[0m {n}", ""),
}


@skipper.training
def bars(which: str):
    bar, end = BARS[which]
    for n in range(8):
        sys.stderr.write(bar.format(n=n))
        sys.stderr.flush()
        time.sleep(0.4)
    sys.stderr.write(end)


@skipper.data
def trickles():
    for n in range(3):
        time.sleep(0.1)
        yield n


@skipper.data
def breaks_off():
    yield 1
    raise ValueError("half way")


@skipper.training(retries=1, backoff=0.1)
def fails():
    raise ValueError("loss is nan")


@skipper.data(retries=1, backoff=0.1)
def counted_call():
    raise KeyError("no")


@skipper.training(retries=1, backoff=0.1)
def counted_task():
    raise KeyError("no")


@skipper.data
def counted_death():
    os.abort()


@skipper.data
def fine():
    log.debug("fine grained")


@skipper.data
def coarse():
    log.info("not told")
    log.error("told")
"""

# Each is a configuration as people write it: what it says has to stand in the log once, as it says.
BASIC = """
import logging

import skipper

logging.basicConfig(level=logging.DEBUG, format="<%(levelname)s> %(message)s")


@skipper.data
def run():
    logging.getLogger("own").debug("once")
    logging.getLogger("own").error("wrong")
"""
DICT = """
import logging.config

import skipper

logging.config.dictConfig({
    "version": 1,
    "formatters": {"short": {"format": "[%(name)s] %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "short",
                         "stream": "ext://sys.stdout"}},
    "loggers": {"own": {"handlers": ["out"], "level": "DEBUG", "propagate": False}},
})


@skipper.data
def run():
    logging.getLogger("own").debug("once")
    logging.getLogger("own").error("wrong")
"""
HANDLER = """
import logging
import sys

import skipper

own = logging.getLogger("own")
own.setLevel("DEBUG")
own.addHandler(logging.StreamHandler(sys.stderr))


@skipper.data
def run():
    own.debug("once")
    own.error("wrong")
"""
SETTINGS = """
[log]
access = true
levels = { "logged.fine" = "debug", "logged.coarse" = "error" }
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = tmp_path_factory.mktemp("logs")
    texts = {"logged": LOGGED, "basic": BASIC, "by_dict": DICT, "by_handler": HANDLER}
    with lent(Tree(project(folder, SETTINGS, **texts), *CPU_ALONE)) as made:
        yield made.ready()
        made.end()


def records(tree: Tree, function: str, **having: Any) -> list[Json]:
    """The records of the tree's log about a function, without those of its file's reading."""
    return [
        record
        for line in (tree.folder / ".skipper/logs/skipper.jsonl").read_text().splitlines()
        if (record := json.loads(line)).get("function") == function
        and having.items() <= record.items()
    ]


def failures(tree: Tree, count: int, function: str, **having: Any) -> list[Json]:
    """The records of runs of a function that failed, once there are so many."""

    def found() -> list[Json]:
        return records(tree, function, event="failure", **having)

    until(lambda: len(found()) >= count)
    return found()


def lines(tree: Tree, task: str) -> list[Json]:
    return list(tree.json(f"/v1/tasks/{task}/logs")["items"])


def test_the_trees_log_has_levels_loggers_and_tracebacks_as_logged(tree: Tree) -> None:
    """https://github.com/rq/rq/issues/2069"""
    tree.value("logged.plain")
    until(lambda: records(tree, "logged.plain", message="printed"))
    logged = records(tree, "logged.plain", logger="prices")
    assert [(each["level"], each["message"]) for each in logged] == [
        ("info", "read 3 rows"),
        ("warning", "two\nlines"),
        ("error", "could not divide"),
    ]
    assert "1 / 0" in logged[-1]["traceback"]
    assert logged[-1]["traceback"].endswith("ZeroDivisionError: division by zero")
    assert all(each["request"] for each in logged)


def test_a_tasks_log_has_them_too(tree: Tree) -> None:
    task = tree.submit("logged.plain")
    tree.result(task)
    told = [(each.get("level"), each["text"].splitlines()[0]) for each in lines(tree, task)]
    assert len(told) == 4
    assert set(told) == {
        (None, "printed"),
        ("error", "could not divide"),
        ("info", "read 3 rows"),
        ("warning", "two"),
    }
    (error,) = [each for each in lines(tree, task) if each.get("level") == "error"]
    assert error["logger"] == "prices"
    assert error["text"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("basic.run", ["<DEBUG> once", "<ERROR> wrong"]),
        ("by_dict.run", ["[own] once", "[own] wrong"]),
        ("by_handler.run", ["once", "wrong"]),
    ],
)
def test_what_a_function_configures_holds_and_nothing_is_told_twice(
    tree: Tree, name: str, texts: list[str]
) -> None:
    task = tree.submit(name)
    tree.result(task)
    told = lines(tree, task)
    assert [each["text"] for each in told] == texts
    assert [(each["level"], each["logger"]) for each in told] == [
        ("debug", "own"),
        ("error", "own"),
    ]
    logged = until(lambda: records(tree, name, task=task, level="error"))
    assert [each["message"] for each in logged] == ["wrong"]


def test_levels_of_functions_count(tree: Tree) -> None:
    for name in ("logged.fine", "logged.coarse"):
        tree.value(name)
    assert until(lambda: records(tree, "logged.fine", message="fine grained", level="debug"))
    assert until(lambda: records(tree, "logged.coarse", message="told", level="error"))
    assert not records(tree, "logged.coarse", message="not told")
    assert until(lambda: "fine grained" in tree.output)


def told(tree: Tree, function: str, count: int = 1, **having: str) -> list[Json]:
    """The records of :func:`records`, once there are so many."""

    def found() -> list[Json]:
        known = records(tree, function, **having)
        return known if len(known) >= count else []

    return until(found, what=f"{count} records of {function} with {having}")


def test_what_nested_calls_print_carries_the_task_and_the_request(tree: Tree) -> None:
    """https://github.com/PrefectHQ/prefect/issues/8606"""
    task = tree.submit("logged.nests", x_request_id="abc-1")
    tree.result(task)
    for function, message in (
        ("logged.nests", "at the top"),
        ("logged.deep", "at the bottom"),
        ("logged.deep", "logged at the bottom"),
    ):
        assert told(tree, function, message=message, task=task, request="abc-1")


def test_what_direct_calls_print_carries_the_request_side_by_side_too(tree: Tree) -> None:
    with ThreadPoolExecutor(4) as pool:
        for name in "abcd":
            pool.submit(tree.invoke, "logged.slow", {"name": name}, x_request_id=f"req-{name}")
    for name in "abcd":
        messages = {each["message"] for each in told(tree, "logged.slow", 3, request=f"req-{name}")}
        assert messages == {f"{name} begins", f"{name} ends", f"{name} logs"}


@pytest.mark.parametrize(
    ("name", "outcomes", "statement"),
    [
        ("raises", ["failed"], 'return {}["key"]'),
        ("raises_again", ["failed", "failed"], 'return json.loads("{")'),
        ("breaks_off", ["failed"], 'raise ValueError("half way")'),
        ("dies", ["died"], "@skipper.data\ndef dies"),
        ("is_late", ["timed_out"], "@skipper.data(timeout=0.3)"),
    ],
)
def test_every_run_of_a_call_that_fails_has_one_record_with_its_request_file_and_line(
    tree: Tree, name: str, outcomes: list[str], statement: str
) -> None:
    """https://github.com/bentoml/BentoML/issues/1210"""
    function = f"logged.{name}"
    assert tree.invoke(function, x_request_id=f"of-{name}").status_code >= 500
    found = failures(tree, len(outcomes), function)
    assert [each["outcome"] for each in found] == outcomes
    assert {each["request"] for each in found} == {f"of-{name}"}
    line = LOGGED[: LOGGED.index(statement)].count("\n") + 1
    assert {each["at"] for each in found} == {f"functions/logged.py:{line}"}
    texts = [each["traceback"] for each in found if "traceback" in each]
    assert len(texts) == (outcomes[0] == "failed")
    assert all(statement in text for text in texts)
    assert all(each["same_as"] == f"of-{name}" for each in found[1:])


def test_every_attempt_of_a_task_that_fails_has_one_record(tree: Tree) -> None:
    task = tree.submit("logged.fails")
    assert tree.ended(task)["state"] == "failed"
    found = failures(tree, 2, "logged.fails", task=task)
    assert [each["attempt"] for each in found] == [1, 2]
    assert "loss is nan" in found[0]["traceback"]
    assert found[1]["same_as"] == task


def requests(tree: Tree, message: str) -> list[Json]:
    """The lines about requests for a path."""
    text = (tree.folder / ".skipper/logs/skipper.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    return [each for each in found if each.get("event") == "access" and each["message"] == message]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/functions/logged.raises/invoke", 500),
        ("POST", "/v1/functions/nowhere.f/invoke", 404),
        ("GET", "/v1/tasks", 200),
        ("GET", "/v1/tasks/none/events", 404),
        ("DELETE", "/livez", 405),
    ],
)
def test_each_request_has_a_line_where_that_is_set(
    tree: Tree, method: str, path: str, status: int
) -> None:
    """https://github.com/bentoml/BentoML/issues/2268"""
    id_ = f"line-{status}-{method}"
    tree.http.request(method, f"{path}?limit=7", headers={"x-request-id": id_})
    until(lambda: [each for each in requests(tree, f"{method} {path}") if each["request"] == id_])
    (line,) = (each for each in requests(tree, f"{method} {path}") if each["request"] == id_)
    assert line["status"] == status
    assert line["ms"] >= 0
    assert "limit" not in str(line)


def test_a_stream_has_its_line_at_its_end(tree: Tree) -> None:
    headers = {"accept": "application/jsonl", "x-request-id": "streamed"}
    path = "/v1/functions/logged.trickles/invoke"
    assert tree.http.request("POST", path, headers=headers).text.count("\n") == 3
    until(lambda: requests(tree, f"POST {path}"))
    (line,) = requests(tree, f"POST {path}")
    assert line["ms"] >= 300
    assert "cut" not in line


@pytest.mark.parametrize(
    ("name", "lane", "outcome", "count"),
    [
        ("counted_call", "direct", "failed", 2),
        ("counted_task", "tasks", "failed", 2),
        ("counted_death", "direct", "died", 1),
    ],
)
def test_ended_attempts_are_counted_by_function_and_outcome(
    tree: Tree, name: str, lane: str, outcome: str, count: int
) -> None:
    """https://github.com/mlflow/mlflow/issues/14149"""
    if lane == "tasks":
        tree.ended(tree.submit(f"logged.{name}"))
    else:
        tree.invoke(f"logged.{name}")
    labels = f'function="logged.{name}",pool="cpu",lane="{lane}",outcome="{outcome}"'
    until(lambda: f"skipper_attempts_total{{{labels}}} {count}\n" in tree.get("/metrics").text)


@pytest.mark.parametrize(
    ("which", "shown"), [("tqdm", " 7%|#| 7/7"), ("keras", "7/7 ━━"), ("rich", "━━ 7")]
)
def test_of_a_progress_bar_the_log_has_the_end_and_who_watches_sees_how_it_stands(
    tree: Tree, which: str, shown: str
) -> None:
    """https://github.com/determined-ai/determined/issues/3945"""
    task = tree.submit("logged.bars", {"which": which})
    assert tree.ended(task)["state"] == "succeeded"
    assert [each["text"] for each in lines(tree, task)] == [shown]
    events = tree.get(f"/v1/tasks/{task}/events").text.split("\n\n")
    live = [json.loads(each.partition("data: ")[2]) for each in events if "event: line" in each]
    assert live
    assert all(set(each["text"]) <= set(shown + "0123456") for each in live)
    logged = records(tree, "logged.bars", task=task, message=shown)
    assert [each.get("unfinished", False) for each in logged][-1] is False
    assert not any("\x1b" in each["message"] for each in records(tree, "logged.bars"))
