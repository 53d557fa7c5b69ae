"""What served code holds is closed when its process ends in an orderly way, and nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.tree import CPU_ALONE, Tree, lent, project, until

CODE = """
import asyncio, atexit, os, tempfile, threading, time, weakref
import skipper

FOLDER, KIND = {folder!r}, {kind!r}

def note(what: str) -> None:
    with open(f"{{FOLDER}}/notes", "a") as file:
        file.write(f"{{KIND}} {{os.getpid()}} {{what}}\\n")

TABLE = tempfile.NamedTemporaryFile(prefix="held-")
PLACE = tempfile.TemporaryDirectory(prefix="held-")

class _Base:
    def __init__(self) -> None:
        self.file = tempfile.NamedTemporaryFile(prefix="held-")
        # As Sentry and OpenTelemetry send the last of what they have.
        atexit.register(note, "atexit")
        weakref.finalize(self, note, "finalize")
        threading.Thread(target=self._late).start()

    def _late(self) -> None:
        threading.main_thread().join(0.3)
        note("thread")

{body}
"""
BODIES = {
    "loop": """
@skipper.inference(idle={idle!r}, recycle={recycle!r})
class held(_Base):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()

    async def __aenter__(self):
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_):
        await asyncio.sleep(0.01)
        note("closed" if self.loop is asyncio.get_running_loop() else "elsewhere")

    async def __call__(self) -> int:
        return os.getpid() if self.loop is asyncio.get_running_loop() else 0
""",
    "manager": """
@skipper.data(idle={idle!r}, recycle={recycle!r})
class held(_Base):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        time.sleep(0.05)
        note("closed")

    def __call__(self) -> int:
        return os.getpid()
""",
    "close": """
@skipper.training(idle={idle!r}, recycle={recycle!r}, mode="direct")
class held(_Base):
    def close(self):
        note("closed")

    def __call__(self) -> int:
        return os.getpid()
""",
}
ALL = {"closed", "atexit", "finalize", "thread"}


class Held:
    """A tree whose functions hold what has to be closed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.notes = folder, folder / "notes"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.tree = Tree(folder, "--reload", *CPU_ALONE, TMPDIR=str(self.temporary))

    def write(self, idle: str = "5m", recycle: int = 1000) -> None:
        texts = {}
        for kind, body in BODIES.items():
            text = body.format(idle=idle, recycle=recycle)
            texts[kind] = CODE.format(folder=str(self.folder), kind=kind, body=text)
        project(self.folder, **texts)

    def pids(self) -> dict[str, int]:
        """The processes that answer."""
        return {kind: self.tree.value(f"{kind}.held") for kind in BODIES}

    def ended(self, kind: str, pid: int) -> set[str]:
        """What a process has noted at its end."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        begin = f"{kind} {pid} "
        return {line.removeprefix(begin) for line in lines if line.startswith(begin)}

    def until_ended(self, pids: dict[str, int]) -> None:
        for kind, pid in pids.items():
            self._until_ended(kind, pid)

    def _until_ended(self, kind: str, pid: int) -> None:
        until(lambda: self.ended(kind, pid) == ALL, 20.0, f"all of {kind}'s end")


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    held = Held(tmp_path)
    held.write()
    with lent(held.tree):
        held.tree.ready()
        yield held


def test_an_idle_a_recycled_a_replaced_and_a_stopped_process_come_to_their_ends(
    held: Held,
) -> None:
    """bentoml/BentoML#5174, frappe/frappe#42523"""
    first = held.pids()
    held.write(idle="1s")
    held.until_ended(first)  # replaced by new code
    idle = held.pids()
    held.until_ended(idle)
    held.write(recycle=2)
    until(
        lambda: all(held.tree.function(f"{k}.held")["recycle"] == 2 for k in BODIES),
        what="a reload",
    )
    worn = held.pids()
    for _ in range(3):
        held.pids()
    held.until_ended(worn)
    last = held.pids()
    held.tree.end()
    held.until_ended(last)
    left = [path.name for path in held.temporary.iterdir() if not path.name.startswith("skp-")]
    assert left == []


def test_an_end_that_never_comes_is_cut_short_and_told(held: Held) -> None:
    never = "\n    def close(self):\n        threading.Event().wait()\n"
    held.tree.save(
        "functions/never.py",
        "import threading\nimport skipper\n\n@skipper.data(idle='1s')\nclass held:\n"
        "    def __call__(self) -> int:\n        return 1\n" + never,
    )
    until(lambda: held.tree.function("never.held"), what="the new file")
    held.tree.value("never.held")
    until(lambda: "and is killed" in held.tree.output, 20.0, "the end by force")
    held.tree.end()
