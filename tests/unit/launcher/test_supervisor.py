"""How the end of the tree is asked for."""

from __future__ import annotations

from skipper.errors import StartError
from skipper.launcher.supervisor import Stop


async def test_the_first_request_drains_and_the_second_kills() -> None:
    stop = Stop()
    stop.request(130)
    assert (stop.requested.is_set(), stop.at_once.is_set()) == (True, False)
    stop.request(143)
    assert (stop.at_once.is_set(), stop.code) == (True, 130)


async def test_a_terminal_that_is_closed_twice_does_not_kill() -> None:
    stop = Stop()
    stop.request(129, again=False)
    stop.request(129, again=False)
    assert not stop.at_once.is_set()


async def test_only_the_first_reason_counts() -> None:
    first, stop = StartError("first"), Stop()
    stop.fail(first)
    stop.fail(StartError("second"))
    assert stop.error is first
    stop.request(130)
    assert stop.at_once.is_set(), "Ctrl-C during a drain that a failure began"


async def test_a_failure_while_stopping_is_no_failure() -> None:
    stop = Stop()
    stop.request(0)
    stop.fail(StartError("too late"))
    assert stop.error is None
