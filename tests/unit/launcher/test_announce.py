"""What the announcer makes of the gateway's answers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skipper.errors import StartError
from skipper.launcher.announce import StartAnnouncer, process_age_s
from skipper.launcher.output import LogOutput
from skipper.launcher.plan import GATEWAY, ChildPlan
from skipper.launcher.supervisor import Stop, Supervisor
from skipper.settings.model import Settings

LIVE = {"name": "a.quick", "kind": "data", "pool": "cpu", "file": "functions/a.py", "state": "live"}


class Gateway:
    """Answers each path with its documents one after the other, the last one for ever."""

    def __init__(self, **documents: list[tuple[int, Any]]) -> None:
        self._documents = {
            f"/{name.replace('__', '/')}": list(each) for name, each in documents.items()
        }
        self.asked: list[str] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:  # the announcer had no need of it any more
            writer.close()
            return
        path = head.split(b" ")[1].decode()
        self.asked.append(path)
        left = self._documents.get(path, [(404, {})])
        status, document = left.pop(0) if len(left) > 1 else left[0]
        writer.write(f"HTTP/1.1 {status} X\r\n\r\n{json.dumps(document)}".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    (tmp_path / ".skipper" / "logs").mkdir(parents=True)
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "a.py").touch()
    return tmp_path / "screen"


async def announced(screen: Path, gateway: Gateway, *, strict: bool = False) -> str:
    """What is on the screen when the tree has come up."""
    async with gateway.serving() as port:
        sections = {"gateway": {"port": port}, "run": {"strict": strict}}
        settings = Settings.model_validate({"project_dir": screen.parent, **sections})
        plan = ChildPlan(name="gateway", command=(), stage=0, level=GATEWAY)
        fd = os.open(screen, os.O_WRONLY | os.O_CREAT)
        with LogOutput(settings, ("gateway",), terminal=fd) as output:
            supervisor = Supervisor(
                [plan], start=NotImplemented, ended=NotImplemented, log=output.log, stop=Stop()
            )
            announcer = StartAnnouncer(settings, output, supervisor)
            await announcer.show()
            await announcer.ready(lambda: None)
        os.close(fd)
    return on_screen(screen)


def on_screen(screen: Path) -> str:
    return screen.read_text()


def functions(
    *items: dict[str, Any], broken: tuple[dict[str, Any], ...] = (), reading: str = ""
) -> tuple[int, Any]:
    # the star stands for the gpu pool's host, which starts later
    return 200, {"items": items, "broken": broken, "loading": ["*", *reading.split()]}


async def test_the_banner_waits_for_quick_functions(screen: Path) -> None:
    gateway = Gateway(
        v1__functions=[functions(), functions(reading="a"), functions(LIVE)],
        readyz=[(503, ""), (200, "")],
    )
    shown = await announced(screen, gateway)
    assert "Functions  1 live\n" in shown
    assert gateway.asked.count("/v1/functions") == 3
    assert gateway.asked.count("/readyz") == 2
    assert shown.index("ready in") > shown.index("1 live")


async def test_the_banner_does_not_wait_for_heavy_functions(screen: Path) -> None:
    gateway = Gateway(v1__functions=[functions(LIVE, reading="boston")], readyz=[(200, "")])
    begun = time.monotonic()
    assert "1 live, reading boston\n" in await announced(screen, gateway)
    assert time.monotonic() - begun > 0.4


async def test_the_banner_gives_up_on_a_project_of_heavy_functions(screen: Path) -> None:
    gateway = Gateway(v1__functions=[functions(reading="boston")], readyz=[(200, "")])
    begun = time.monotonic()
    assert "Functions  reading boston\n" in await announced(screen, gateway)
    assert time.monotonic() - begun > 1.0


async def test_the_ready_line_says_where_gpu_functions_run(screen: Path) -> None:
    gateway = Gateway(
        v1__functions=[functions(LIVE)],
        v1__pools=[(200, {"items": []}), (200, {"items": [{"pool": "gpu", "devices": []}]})],
        readyz=[(200, "")],
    )
    assert "(no GPU found" in await announced(screen, gateway)


async def test_strictness_names_all_that_is_broken(screen: Path) -> None:
    first = {"file": "functions/c.py", "line": 3, "error": "NameError: np"}
    second = {"file": "functions/d.py", "line": None, "error": "it did not load"}
    gateway = Gateway(v1__functions=[functions(broken=(first, second))], readyz=[(503, "")])
    with pytest.raises(StartError, match=r"functions/c\.py:3 cannot be loaded: NameError") as seen:
        await announced(screen, gateway, strict=True)
    assert "functions/d.py:1 cannot be loaded: it did not load" in str(seen.value)
    assert seen.value.code == 3


async def test_answers_of_another_shape_are_no_error(screen: Path) -> None:
    gateway = Gateway(v1__functions=[(401, ["?"])], v1__pools=[(200, 7)], readyz=[(200, "")])
    assert "none yet" in await announced(screen, gateway)


def test_the_age_of_this_process_is_plausible() -> None:
    assert 0 < process_age_s() < 24 * 3600
