"""Several gateway processes on one port: each answers as the others do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest

from tests.acceptance.events import metrics
from tests.acceptance.tree import LIMIT_S, Tree, lent, project, until

ANSWER = """
import skipper

@skipper.data
def answer() -> int:
    return {}
"""
PATH = "/v1/functions/{}.answer/invoke"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    files = {"plain": ANSWER.format(1), "saved": ANSWER.format(1)}
    folder = project(tmp_path_factory.mktemp("gateways"), "[gateway]\nworkers = 2\n", **files)
    with lent(Tree(folder, "--reload")) as tree:
        yield tree.ready()
        tree.end()


def gateway_of(connection: httpx.Client) -> str:
    """Which gateway a connection has come to: they number their requests apart."""
    return connection.post(PATH.format("plain")).headers["x-request-id"][:8]


@pytest.fixture
def both(tree: Tree) -> Iterator[list[httpx.Client]]:
    """A connection to each of the two gateways."""
    with ExitStack() as stack:
        found: dict[str, httpx.Client] = {}

        def connect() -> bool:
            one = stack.enter_context(httpx.Client(base_url=tree.url, timeout=LIMIT_S))
            found.setdefault(gateway_of(one), one)
            return len(found) == 2

        until(connect, what="a connection to each gateway")
        yield list(found.values())


def test_what_is_counted_is_the_same_at_each(both: list[httpx.Client]) -> None:
    counted = [metrics(one.get("/metrics").text)["skipper_calls_total"] for one in both]
    assert counted[0] == counted[1]
    before = sum(count for _, count in counted[0][1])
    for one in both:
        assert one.post(PATH.format("plain")).json() == 1
    for one in both:
        _, samples = metrics(one.get("/metrics").text)["skipper_calls_total"]
        assert sum(count for _, count in samples) == before + 2


def test_saved_code_is_served_by_each(tree: Tree, both: list[httpx.Client]) -> None:
    tree.save("functions/saved.py", ANSWER.format(2))
    for one in both:

        def answers(one: httpx.Client = one) -> bool:
            return bool(one.post(PATH.format("saved")).json() == 2)

        until(answers, what="the new code")
        assert {one.post(PATH.format("saved")).json() for _ in range(10)} == {2}
    codes = {one.post(PATH.format("saved")).headers["x-skipper-code"] for one in both}
    assert len(codes) == 1


def test_the_death_of_one_is_no_matter_to_the_callers_of_the_other(
    tree: Tree, both: list[httpx.Client]
) -> None:
    before, theirs = tree.pids(), [gateway_of(one) for one in both]
    os.kill(before["gateway-1"], signal.SIGKILL)
    still_theirs = []
    for one, gateway in zip(both, theirs, strict=True):
        # The connection to the one that died breaks, or a new one has been made in its place.
        with suppress(httpx.TransportError):
            still_theirs.append(gateway_of(one) == gateway)
    assert still_theirs.count(True) == 1, "the other one's connection lives on"
    until(lambda: tree.pids().get("gateway-1", 0) not in (0, before["gateway-1"]), what="another")
    assert tree.pids()["gateway-2"] == before["gateway-2"]
    assert tree.value("plain.answer") == 1
