"""The whole system under test: one machine or two, and servers of its own where it needs them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.chaos.machine import TERMINATED, Machine
from tests.chaos.origins import SCHEDULES, WATCHED
from tests.chaos.plan import How
from tests.chaos.receiver import NAME, Receiver
from tests.integration.services import (
    Server,
    free_port,
    private_postgres,
    private_rabbitmq,
    project_name,
)

_POOLS = ("--only", "pool:cpu,pool:gpu")


class Memory(NamedTuple):
    """One process and what it held, MiB. ``name`` is its place in the tree."""

    name: str
    pid: int
    mb: float


class Tree:
    """``machines`` of one project, the first with everything; ``broker`` if it is a server."""

    def __init__(self, folder: Path, machines: Sequence[Machine], broker: Server | None) -> None:
        self.folder, self.machines, self.broker = folder, machines, broker
        self.effects = folder / "effects.log"
        self.effects.touch()

    @property
    def url(self) -> str:
        return self.machines[0].settings.base_url

    def start(self) -> None:
        """Start what does not run, and wait until all of it is ready."""
        for machine in self.machines:
            if not machine.is_running:
                machine.start()

    def stop(self) -> list[int | None]:
        """End all as a user does; the launchers' exit codes."""
        return [machine.stop() for machine in reversed(self.machines)]

    def end_launcher(self, how: How) -> int | None:
        """Kill, cut off or end the first machine's; its exit code if it was ended."""
        first = self.machines[0]
        if how == "kill":
            first.kill_launcher()
        elif how == "cut":
            first.cut_off()
        else:
            return first.stop()
        return TERMINATED

    @property
    def has_ended(self) -> bool:
        """Whether some launcher has gone."""
        return not all(machine.is_running for machine in self.machines)

    def targets(self, role: str) -> list[tuple[str, int]]:
        """The processes that fill ``role`` now: the place they belong to, and pid."""
        return [target for machine in self.machines for target in machine.targets(role)]

    @property
    def failpoints(self) -> Path:
        """Where the first machine's points are armed."""
        return self.machines[0].failpoints

    def change_code(self, number: int) -> None:
        """Have the first machine's functions read again."""
        self.machines[0].change_code(number)

    def memory(self) -> list[Memory]:
        """What each long-lived process of the first machine holds now, and the broker."""
        named = self.machines[0].pids()
        if self.broker is not None and self.broker.pid:
            named["broker"] = self.broker.pid
        found = ((name, pid, _resident_mb(pid, name == "broker")) for name, pid in named.items())
        return [Memory(name, pid, mb) for name, pid, mb in found if mb]

    def hosts(self) -> dict[int, str]:
        """The hosts' places, by pid."""
        return {pid: name for name, pid in self.targets("host")}

    def is_back(self, name: str, former: int) -> bool:
        """Whether the place ``name`` is filled and ready again."""
        machine = next(each for each in reversed(self.machines) if name.startswith(each.name))
        child = machine.children().get(name, {})
        return child.get("state") == "ready" and child.get("pid") != former

    def leftovers(self) -> list[psutil.Process]:
        """What a launcher that has gone has left behind."""
        gone = (machine for machine in self.machines if not machine.is_running)
        return [process for machine in gone for process in machine.processes()]


@contextlib.contextmanager
def planted(folder: Path, receiver: Receiver, backend: str, machines: int = 1) -> Iterator[Tree]:
    """A system, not yet started, on servers of its own where ``backend`` needs them."""
    with contextlib.ExitStack() as stack:
        broker = database = None
        if backend == "rabbit":
            broker = stack.enter_context(private_rabbitmq())
            database = stack.enter_context(private_postgres())
        toml = _toml(folder, broker, database) + _tables(receiver)
        made = [_machine(folder, toml, number) for number in range(1, machines + 1)]
        for machine in made:
            stack.callback(machine.clear)
        yield Tree(folder, made, broker)


def _machine(folder: Path, toml: str, number: int) -> Machine:
    """The first has every part, the others have pools alone. All write one effect log."""
    name, flags = ("", ()) if number == 1 else (f"{number}:", _POOLS)
    machine = Machine(folder / f"machine-{number}", toml, *flags, name=name)
    (machine.folder / "effects.log").symlink_to(folder / "effects.log")
    return machine


def _resident_mb(pid: int, is_server: bool) -> float:
    """Resident memory of a process, MiB; of a server, which a shell may lead, with all below it."""
    try:
        process = psutil.Process(pid)
        below = process.children(recursive=True) if is_server else []
        return float(sum(each.memory_info().rss for each in (process, *below)) / (1 << 20))
    except psutil.Error:
        return 0.0


def _tables(receiver: Receiver) -> str:
    """The settings of the webhook and of the schedules."""
    webhook = {
        "url": receiver.url,
        "secret": receiver.secret,
        "allow_private": True,
        "functions": list(WATCHED),
    }
    lines = [f"[webhooks.{NAME}]", *(f"{key} = {json.dumps(webhook[key])}" for key in webhook)]
    for name, table in SCHEDULES.items():
        lines += [f"[schedules.{name}]", 'function = "chaos.work"', 'missed = "all"']
        lines += ['overlap = "allow"']  # so that there is a task of each tick
        lines += [f'cron = "{table["cron"]}"', f'body = {{ nonce = "{table["nonce"]}" }}']
    return "\n".join(lines) + "\n"


def _toml(folder: Path, broker: Server | None, database: Server | None) -> str:
    lines = [f'[project]\nname = "{project_name()}"', f"[gateway]\nport = {free_port()}"]
    lines.append("[run]\nreload = true")
    if broker is not None:
        lines.append(f'[broker]\nurl = "{broker.url}"')
    if database is not None:
        lines.append(f'[database]\nurl = "{database.url}"')
        lines.append(f'[storage]\nurl = "{folder / "blobs"}"')
    return "\n".join(lines) + "\n"
