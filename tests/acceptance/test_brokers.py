"""Messages that the broker holds to be lost, and a broker that says nothing at all."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skipper.tasks import broker
from tests.acceptance.conftest import PLAIN, Grow
from tests.acceptance.tree import Gate, Tree, lent, project, until
from tests.integration.services import Server, private_rabbitmq, project_name

kombu: Any = pytest.importorskip("kombu")  # untyped for the most part

ONE_SLOT = "[run]\nreload = false\n\n[pools.cpu]\ntask_slots = 1\n"
IMPATIENT = "[{rabbit, [{consumer_timeout, 2000}, {channel_tick_interval, 1000}]}]."
"""RabbitMQ takes back what has not been acknowledged for 2 s, in place of half an hour."""
WAITING = 40
"""More than a host lists and its consumer holds: some messages stay unacknowledged."""


def planted(folder: Path, toml: str) -> Path:
    files = ("hold", "work", "bodies")
    texts = {stem: (PLAIN / "functions" / f"{stem}.py").read_text() for stem in files}
    return project(folder / "project", toml, **texts)


@pytest.fixture(scope="module")
def one_slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree on an embedded broker that runs one task at a time."""
    with lent(Tree(planted(tmp_path_factory.mktemp("one-slot"), ONE_SLOT))) as tree:
        yield tree.ready()
        tree.end()


# --- what outlasts the broker's patience ---


def hold_the_slot(tree: Tree, gate: Gate) -> tuple[str, list[str]]:
    """A task that runs until the gate opens, and many that wait behind it."""
    task_id = tree.submit("hold.task", gate.body)
    gate.wait_for()
    return task_id, [tree.submit("bodies.add", {"x": n}) for n in range(WAITING)]


def all_run_once(tree: Tree, gate: Gate, task_id: str, others: list[str]) -> None:
    gate.open()
    assert tree.result(task_id) == "through"
    assert [tree.result(other) for other in others] == [n + 10 for n in range(WAITING)]
    assert {tree.task(each)["attempt"] for each in (task_id, *others)} == {1}
    assert gate.entered == 1


def redeliver(tree: Tree) -> int:
    """Let the visibility timeout of all messages pass; how many were unacknowledged."""
    settings = tree.settings
    options = broker.transport_options(settings) | {"visibility_timeout": 0}
    with kombu.Connection(settings.broker_url, transport_options=options) as connection:
        channel = connection.default_channel
        held = int(channel.client.hlen(options["unacked_key"]))
        channel.qos.restore_visible(interval=1, num=100)
        return held


def test_a_task_that_outlasts_the_visibility_timeout_runs_once(one_slot: Tree, gate: Gate) -> None:
    task_id, others = hold_the_slot(one_slot, gate)
    until(lambda: redeliver(one_slot), what="messages that were delivered and not taken")
    for _ in range(3):  # as if hours had passed
        redeliver(one_slot)
    all_run_once(one_slot, gate, task_id, others)


def timeouts(server: Server) -> int:
    """How often the broker has closed a channel for want of an acknowledgement."""
    return server.log.read_text(errors="replace").count("timed out")


@pytest.mark.services
@pytest.mark.slow
def test_a_task_that_outlasts_rabbitmqs_consumer_timeout_runs_once(
    grow: Grow, tmp_path: Path, gate: Gate
) -> None:
    with private_rabbitmq(advanced=IMPATIENT) as server:
        toml = f'[project]\nname = "{project_name()}"\n[broker]\nurl = "{server.url}"\n{ONE_SLOT}'
        tree = grow(planted(tmp_path, toml)).ready()
        task_id, others = hold_the_slot(tree, gate)
        until(lambda: timeouts(server) >= 2, what="timeouts of the broker's")
        all_run_once(tree, gate, task_id, others)
        tree.end()


# --- a broker that is away ---


@contextmanager
def hung(tree: Tree) -> Iterator[None]:
    """The broker's process stands still: its connections stay open, and nothing is answered."""
    pid = tree.pids()["broker"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_without_an_answer_from_the_broker_tasks_start_end_and_are_cancelled(
    one_slot: Tree, gate: Gate
) -> None:
    with hung(one_slot):
        assert one_slot.value("bodies.add", {"x": 1}) == 11
        late = one_slot.ended(one_slot.submit("work.late"))
        assert (late["state"], late["attempt"]) == ("timed_out", 1)
        assert one_slot.result(one_slot.submit("work.picky", {"transient": True})) == 3
        held = one_slot.submit("hold.deaf", gate.body)
        gate.wait_for()
        waiting = one_slot.submit("bodies.add", {"x": 2}, x_skipper_delay="100ms")
        assert one_slot.post(f"/v1/tasks/{held}/cancel").status_code == 202
        assert one_slot.ended(held)["state"] == "cancelled"
        assert one_slot.result(waiting) == 12
