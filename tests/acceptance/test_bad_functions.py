"""Whatever a function does, its caller gets one answer, its task one end, and nobody else notices.

Each misdeed is done as direct calls and as tasks, all on one tree and side by side, while another
function is called all the time both ways. ``docs/reliability.md`` has the same table.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import PLAIN
from tests.acceptance.load import Busy, Watch, calls, tasks
from tests.acceptance.tree import LIMIT_S, Tree, lent, project, started_at, until

pytestmark = pytest.mark.timeout(300)  # all of it is done before the first test

ROOT = Path(__file__).parents[2]
TOML = """
[pools.cpu]
slots = 32
task_slots = 8
max_result_mb = 8
"""
AT_ONCE = 6
"""Misdeeds that are under way at a time."""
GROWTH_MB = 64
"""How much more memory the host and the gateway may use than before, whatever functions do."""
GONE_S = 5.0
"""After a call, what it started and left behind may live this long."""

_DEEP = b"[" * 100_000 + b"]" * 100_000
_TYPED = {"__type__": "x", "__value__": 1}


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A misdeed, what a direct call of it is answered, and how its task ends."""

    does: str
    """As the document calls it."""
    name: str
    status: int
    state: str
    told: str = ""
    """A part of the problem's detail."""
    value: Any = None
    """What is returned, where it succeeds."""
    body: Any = None
    at_once: int = 1
    in_turn: int = 1

    def __str__(self) -> str:
        return self.name.removeprefix("bad.")


def _of_kind(name: str, told: str = "{}") -> list[Bad]:
    return [
        Bad(
            does="raises what is no `Exception`, or odd: `KeyboardInterrupt`, `GeneratorExit`, "
            "`StopIteration`, `MemoryError`",
            name=name,
            body={"kind": kind},
            status=500,
            state="failed",
            told=told.format(kind),
        )
        for kind in ("KeyboardInterrupt", "GeneratorExit", "StopIteration", "MemoryError")
    ]


BAD = [
    Bad(
        does="raises an exception",
        name="bad.raises",
        status=500,
        state="failed",
        told="ValueError: boom",
    ),
    Bad(
        does="raises one whose `str` and `repr` raise",
        name="bad.raises_unprintable",
        status=500,
        state="failed",
        told="_UnprintableError: <its text cannot be shown: RuntimeError>",
    ),
    Bad(
        does="raises one with a text of 10 MB",
        name="bad.raises_at_length",
        status=500,
        state="failed",
        told="ValueError: xxx",
    ),
    Bad(
        does="raises one with 100,000 causes",
        name="bad.raises_from_many",
        status=500,
        state="failed",
        told="ValueError: the last",
    ),
    Bad(
        does="raises an `ExceptionGroup`",
        name="bad.raises_group",
        status=500,
        state="failed",
        told="ExceptionGroup: both (2 sub-exceptions)",
    ),
    *_of_kind("bad.raises_kind"),
    *_of_kind("bad.raises_kind_awake"),
    Bad(
        does="calls itself 100,000 deep",
        name="bad.recurses",
        status=500,
        state="failed",
        told="RecursionError",
    ),
    *(
        Bad(
            does="raises `Cancelled`, and nobody cancelled it",
            name=name,
            status=500,
            state="failed",
            told="and nobody cancelled it",
        )
        for name in ("bad.says_it_was_cancelled", "bad.says_it_was_cancelled_awake")
    ),
    Bad(
        does="calls `sys.exit`",
        name="bad.exits",
        status=500,
        state="failed",
        told="sys.exit(3)",
    ),
    Bad(
        does="reads its standard input",
        name="bad.reads_input",
        status=500,
        state="failed",
        told="EOFError",
    ),
    Bad(
        does="calls `os._exit`",
        name="bad.exits_at_once",
        status=502,
        state="crashed",
        told="exited with code 4",
    ),
    Bad(
        does="breaks off with a segmentation fault",
        name="bad.segfaults",
        status=502,
        state="crashed",
        told="killed by SIGSEGV",
    ),
    Bad(
        does="kills itself",
        name="bad.kills_itself",
        status=502,
        state="crashed",
        told="killed by SIGKILL",
    ),
    *(
        Bad(
            does="closes every descriptor",
            name=name,
            status=502,
            state="crashed",
            told="closed its connection to its host",
        )
        for name in ("bad.closes_every_descriptor", "bad.closes_every_descriptor_awake")
    ),
    Bad(
        does="allocates until it is killed, ten at once",
        name="bad.devours",
        at_once=10,
        status=502,
        state="crashed",
        told="more than its limit of 150 MiB",
    ),
    Bad(
        does="stops itself (SIGSTOP)",
        name="bad.stops_itself",
        status=504,
        state="timed_out",
        told="passed while it ran",
    ),
    *(
        Bad(
            does="sleeps for ever",
            name=name,
            status=504,
            state="timed_out",
            told="passed while it ran",
        )
        for name in ("bad.oversleeps", "bad.oversleeps_awake")
    ),
    Bad(
        does="holds the interpreter's lock",
        name="bad.holds_the_lock",
        status=504,
        state="timed_out",
        told="passed while it ran",
    ),
    Bad(
        does="ignores every signal",
        name="bad.ignores_signals",
        status=504,
        state="timed_out",
        told="passed while it ran",
    ),
    *(
        Bad(
            does="forks, and both return",
            name=name,
            in_turn=5,
            status=200,
            state="succeeded",
            value="parent",
        )
        for name in ("bad.forks", "bad.forks_awake")
    ),
    Bad(
        does="forks daemons",
        name="bad.forks_daemons",
        status=200,
        state="succeeded",
    ),
    Bad(
        does="leaves children",
        name="bad.leaves_children",
        status=200,
        state="succeeded",
    ),
    Bad(
        does="uses a `multiprocessing.Pool`",
        name="bad.uses_a_pool",
        status=200,
        state="succeeded",
        value=[3, 2, 1],
    ),
    Bad(
        does="leaves a thread",
        name="bad.leaves_a_thread",
        status=200,
        state="succeeded",
        value="done",
    ),
    Bad(
        does="leaks a little with every call",
        name="bad.leaks",
        in_turn=60,
        status=200,
        state="succeeded",
    ),
    Bad(
        does="prints very many lines",
        name="bad.chats",
        body={"lines": 50_000},
        status=200,
        state="succeeded",
        value=50_000,
    ),
    Bad(
        does="prints very much without a line's end",
        name="bad.drones",
        body={"mebibytes": 20},
        status=200,
        state="succeeded",
        value=20,
    ),
    Bad(
        does="prints what is not UTF-8, and escape codes",
        name="bad.prints_garbage",
        status=200,
        state="succeeded",
        value="done",
    ),
    Bad(
        does="closes its output",
        name="bad.closes_everything",
        in_turn=2,
        status=200,
        state="succeeded",
        value="done",
    ),
    Bad(
        does="returns what is not JSON: any object",
        name="bad.opaque",
        status=500,
        state="failed",
        told="object is not JSON",
    ),
    Bad(
        does="returns NaN or infinity",
        name="bad.no_numbers",
        status=200,
        state="succeeded",
        value=[None, None, None],
    ),
    Bad(
        does="returns bytes that are UTF-8, and does not say so",
        name="bad.text_bytes",
        status=200,
        state="succeeded",
        value="w6k=",
    ),
    Bad(
        does="returns other bytes, and does not say so",
        name="bad.other_bytes",
        status=200,
        state="succeeded",
        value="_w==",
    ),
    Bad(
        does="returns a circular object",
        name="bad.circular",
        status=500,
        state="failed",
        told="Circular reference",
    ),
    Bad(
        does="returns a value that is nested 100,000 deep",
        name="bad.nested",
        status=500,
        state="failed",
        told="depth exceeded",
    ),
    Bad(
        does="returns a string of 100 MB",
        name="bad.bulky",
        body={"megabytes": 100},
        status=500,
        state="failed",
        told="95.4 MiB of JSON; at most 8 MiB are taken",
    ),
    Bad(
        does="yields for ever, to a plain call",
        name="bad.yields_for_ever",
        status=500,
        state="failed",
        told="at most 8 MiB are taken",
    ),
    Bad(
        does="tells of its progress at a length of 1 MB",
        name="bad.reports_at_length",
        status=200,
        state="succeeded",
        value=None,
    ),
    Bad(
        does='returns `{"__type__": "x", "__value__": 1}`',
        name="bad.echo",
        body={"value": _TYPED},
        status=200,
        state="succeeded",
        value=_TYPED,
    ),
    Bad(
        does="is sent a body that is nested 100,000 deep",
        name="bad.echo",
        body=b'{"value": ' + _DEEP + b"}",
        status=400,
        state="not accepted",
        told="recursion limit exceeded",
    ),
]


# --- doing it all ----------------------------------------------------------------------------


@dataclass
class Done:
    """What came of one misdeed."""

    answers: list[httpx.Response] = field(default_factory=list)
    tasks: list[Any] = field(default_factory=list)
    """Tasks that have ended; the answers of those that were not accepted."""
    trouble: str = ""
    """Why not all of it was done."""


@dataclass(frozen=True, kw_only=True)
class Deeds:
    """All that was done, and what others saw of it."""

    done: dict[int, Done]
    """By the misdeed's place in ``BAD``."""
    others: dict[str, Busy]
    """Those who called another function all the while, directly and as tasks."""
    growth: dict[str, float]
    before: dict[str, int]
    after: dict[str, int]
    """The tree's own processes."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = project(tmp_path_factory.mktemp("bad"), TOML)
    (folder / "functions").mkdir()
    shutil.copy(PLAIN / "functions" / "bad.py", folder / "functions")
    with lent(Tree(folder)) as tree:
        yield tree.ready()
        tree.end()


@pytest.fixture(scope="module")
def deeds(tree: Tree) -> Deeds:
    tree.value("bad.bystander")
    before = tree.pids()
    with (
        calls(tree) as direct,
        tasks(tree) as running,
        Watch(host=before["cpu"], gateway=before["gateway"]) as watch,
        ThreadPoolExecutor(AT_ONCE) as doers,
        ThreadPoolExecutor(40) as callers,
    ):
        longest_first = sorted(enumerate(BAD), key=lambda item: -item[1].in_turn)
        results = {number: doers.submit(_do, tree, bad, callers) for number, bad in longest_first}
        done = {number: result.result() for number, result in results.items()}
    return Deeds(
        done=done,
        others={"direct": direct, "tasks": running},
        growth=watch.growth,
        before=before,
        after=tree.pids(),
    )


def _do(tree: Tree, bad: Bad, callers: ThreadPoolExecutor) -> Done:
    done = Done()
    for _ in range(bad.in_turn):
        answers = [callers.submit(_invoke, tree, bad) for _ in range(bad.at_once)]
        tasks = [callers.submit(_run, tree, bad) for _ in range(bad.at_once)]
        try:
            done.answers += [answer.result() for answer in answers]
            done.tasks += [task.result() for task in tasks]
        except (AssertionError, httpx.HTTPError) as error:
            done.trouble = repr(error)
            break
    return done


def _invoke(tree: Tree, bad: Bad, **headers: str) -> httpx.Response:
    if isinstance(bad.body, bytes):
        kind = {"Content-Type": "application/json"}
        path = f"/v1/functions/{bad.name}/invoke"
        return tree.post(path, content=bad.body, headers=kind | headers)
    return tree.invoke(bad.name, bad.body, **headers)


def _run(tree: Tree, bad: Bad) -> Any:
    response = _invoke(tree, bad, Prefer="respond-async")
    return tree.ended(response.json()["id"]) if response.status_code == 202 else response.json()


# --- what came of it -------------------------------------------------------------------------

_EACH = pytest.mark.parametrize("number", range(len(BAD)), ids=[str(bad) for bad in BAD])


@_EACH
def test_the_caller_of_a_bad_function_gets_one_answer(deeds: Deeds, number: int) -> None:
    bad, answers = BAD[number], deeds.done[number].answers
    assert not deeds.done[number].trouble
    assert [answer.status_code for answer in answers] == [bad.status] * len(answers)
    if bad.status != 200:
        assert all(bad.told in answer.json()["detail"] for answer in answers), answers[0].text
        assert all(len(answer.content) < 20_000 for answer in answers)
    elif bad.value is not None:
        assert [answer.json() for answer in answers] == [bad.value] * len(answers)


@_EACH
def test_a_bad_task_ends_once_and_says_how(deeds: Deeds, tree: Tree, number: int) -> None:
    bad, tasks = BAD[number], deeds.done[number].tasks
    assert not deeds.done[number].trouble
    if bad.state == "not accepted":
        assert [task["status"] for task in tasks] == [bad.status]
        return
    assert [task["state"] for task in tasks] == [bad.state] * len(tasks), tasks
    assert {task["attempt"] for task in tasks} == {1}
    if bad.state != "succeeded":
        assert all(bad.told in task["error"]["detail"] for task in tasks), tasks[0]
    elif bad.value is not None:
        assert tree.result(tasks[-1]["id"]) == bad.value


def test_nobody_else_notices(deeds: Deeds) -> None:
    for other in deeds.others.values():
        assert other.troubles == []
        assert other.done > 20
    served_by = {value["pid"] for value in deeds.others["direct"].values}
    assert len(served_by) <= 2, "one, and another where the machine was so busy that calls waited"
    assert deeds.after == deeds.before


def test_neither_host_nor_gateway_grows(deeds: Deeds) -> None:
    assert max(deeds.growth.values()) < GROWTH_MB, deeds.growth


def test_what_functions_leave_behind_is_ended(deeds: Deeds) -> None:
    """Daemons at once, children with the process that started them, which is soon idle."""
    names = ("bad.forks_daemons", "bad.leaves_children")
    answers = [
        answer
        for number, bad in enumerate(BAD)
        for answer in deeds.done[number].answers
        if bad.name in names
    ]
    left = [pid for answer in answers for pid in answer.json()]
    assert len(left) == 6
    until(lambda: not [pid for pid in left if started_at(pid)], GONE_S, "the end of what was left")


def test_a_process_that_leaks_is_replaced_before_it_is_too_large(deeds: Deeds) -> None:
    (number,) = (number for number, bad in enumerate(BAD) if bad.name == "bad.leaks")
    processes = {answer.json() for answer in deeds.done[number].answers}
    assert 1 < len(processes) < 10


@pytest.mark.parametrize("name", ["bad.chats", "bad.drones", "bad.prints_garbage"])
def test_what_a_task_prints_is_kept_up_to_a_bound(deeds: Deeds, tree: Tree, name: str) -> None:
    (number,) = (number for number, bad in enumerate(BAD) if bad.name == name)
    (task,) = deeds.done[number].tasks
    logs = tree.json(f"/v1/tasks/{task['id']}/logs")
    assert 0 < sum(len(line["text"]) for line in logs["items"]) < 3 << 20
    assert (logs["dropped"] > 0) == (name != "bad.prints_garbage")


def test_what_is_printed_cannot_drive_the_terminal(deeds: Deeds, tree: Tree) -> None:
    assert "beside a title" in tree.output
    assert "\x1b]0;" not in tree.output
    assert "lines of output are left out here" in tree.output


@pytest.mark.slow
def test_a_gigabyte_of_output_hurts_nobody(tree: Tree) -> None:
    """A million lines, and beside them a gigabyte without a line's end."""
    pids = tree.pids()
    with (
        calls(tree) as others,
        Watch(host=pids["cpu"], launcher=tree.pid) as watch,
        ThreadPoolExecutor(2) as callers,
    ):
        lines = callers.submit(_at_length, tree, "bad.chats", {"lines": 1_000_000})
        rest = callers.submit(_at_length, tree, "bad.drones", {"mebibytes": 1024})
        assert (lines.result(), rest.result()) == (1_000_000, 1024)
    assert others.troubles == []
    assert max(watch.growth.values()) < GROWTH_MB, watch.growth


def _at_length(tree: Tree, name: str, body: dict[str, int]) -> int:
    """The value of a call that nothing is heard of for a long time."""
    response = tree.post(f"/v1/functions/{name}/invoke", json=body, timeout=5 * LIMIT_S)
    return int(response.json())


# --- what takes more than one attempt ----------------------------------------------------------


def test_a_task_that_kills_its_process_at_every_attempt_ends_crashed(tree: Tree) -> None:
    task = tree.ended(tree.submit("bad.kills_itself_again"))
    assert (task["state"], task["attempt"], task["max_attempts"]) == ("crashed", 3, 3)
    attempts = tree.json(f"/v1/tasks/{task['id']}/attempts")["items"]
    assert [attempt["outcome"] for attempt in attempts] == ["crashed"] * 3
    crashed = tree.json("/v1/tasks", params={"state": "crashed", "function": task["function"]})
    assert [item["id"] for item in crashed["items"]] == [task["id"]]


def test_a_call_that_kills_its_host_is_answered_and_the_pool_comes_back(tree: Tree) -> None:
    response = tree.invoke("bad.kills_its_host")
    assert response.status_code == 502
    assert "the host of pool cpu went away" in response.json()["detail"]
    assert until(lambda: tree.invoke("bad.bystander").status_code == 200)


def test_a_task_that_keeps_killing_its_hosts_ends_crashed(tree: Tree) -> None:
    """After 20 of them; here after fewer, with the count set forward."""
    task_id = tree.submit("bad.kills_its_host")
    until(lambda: _set_losses(tree, task_id, 20), what="a host that was lost")
    task = tree.ended(task_id)
    assert task["state"] == "crashed"
    assert "More than 20 hosts died" in task["error"]["detail"]
    assert until(lambda: tree.invoke("bad.bystander").status_code == 200)


def _set_losses(tree: Tree, task_id: str, losses: int) -> bool:
    """Write down more hosts lost by the task than there were, once there has been one."""
    statement = "UPDATE tasks SET losses = ? WHERE id = ? AND losses > 0"
    file = tree.settings.state_dir / "ledger.db"
    with contextlib.closing(sqlite3.connect(file, timeout=10)) as ledger, ledger:
        return ledger.execute(statement, (losses, task_id)).rowcount == 1


# --- the document ------------------------------------------------------------------------------


def test_the_document_tells_what_comes_of_each() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    section = text.partition("## Bad functions\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (\d{3})[^|]*\| ([a-z_ ]+?) \|", section, re.MULTILINE)
    expected = dict.fromkeys((bad.does, str(bad.status), bad.state) for bad in BAD)
    assert rows == [*expected, ("kills its host", "502", "crashed")]


def test_processes_of_functions_are_the_first_that_the_kernel_ends(tree: Tree) -> None:
    """When memory runs out, that is."""
    pid = tree.value("bad.bystander")["pid"]
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == 500
