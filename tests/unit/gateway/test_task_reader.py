"""Who is shown that a training task succeeded is served by its model from then on."""

from __future__ import annotations

from typing import Any, cast

from skipper.gateway.task_reader import REMEMBERED, ModelAnnouncements
from skipper.spec import Kind
from skipper.task import State, Task
from skipper.wire.directory import Directory


class Hosts:
    """A directory that counts how often all hosts were asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def renew_models(self) -> None:
        self.asked += 1


def task(id_: str, kind: str = Kind.TRAINING, state: State = State.SUCCEEDED) -> Task:
    facts: dict[str, Any] = {"function": "f.f", "pool": "gpu", "created_at": 1.0}
    return Task(id=id_, kind=kind, state=state, available_at=1.0, **facts)


async def test_hosts_are_asked_before_a_success_is_shown_for_the_first_time() -> None:
    hosts = Hosts()
    announcements = ModelAnnouncements(cast(Directory, hosts))
    await announcements.announce([task("1"), task("2")])
    assert hosts.asked == 1
    await announcements.announce([task("2")])
    assert hosts.asked == 1
    await announcements.announce([task("3")])
    assert hosts.asked == 2


async def test_other_tasks_ask_nobody() -> None:
    hosts = Hosts()
    announcements = ModelAnnouncements(cast(Directory, hosts))
    await announcements.announce([task("1", kind=Kind.DATA), task("2", state=State.RUNNING)])
    assert hosts.asked == 0


async def test_only_the_latest_tasks_are_remembered() -> None:
    hosts = Hosts()
    announcements = ModelAnnouncements(cast(Directory, hosts))
    await announcements.announce([task(str(number)) for number in range(REMEMBERED + 1)])
    await announcements.announce([task("1")])
    assert hosts.asked == 1
    await announcements.announce([task("0")])
    assert hosts.asked == 2
