"""Servers under test: started in a session of their own, ended with all they have started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from bench import peers
from bench.calls import ANSWER_S, answers, until

STOP_S = 15.0
_STEP_S = 0.003
_MIB = 1 << 20


class Server:
    """One running server and what came out of it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        """End it as its owner would; after a while, or where that leaves something, by force."""
        family = _family(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.kill()

    def cpu_s(self) -> float:
        """What it and all below it have used of the processors so far, in seconds."""
        return sum(cpu_s(pid) for pid in (self.pid, *(p.pid for p in _family(self.pid))))

    def told(self) -> str:
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]


def start(
    command: Sequence[str | Path],
    name: str,
    *,
    folder: Path = peers.APPS,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Start a server; its output goes to `.bench/logs/<name>.log`."""
    log = peers.WORK / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd=folder,
            env=peers.environment() | dict(environment or {}),
            start_new_session=True,
        )
    return Server(process, log)


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """Stop ``server`` after the block; an error in it is told with the end of the server's log."""
    try:
        yield server
    except Exception as error:
        error.add_note(f"{server.log}:\n{server.told()}")
        raise
    finally:
        server.stop()


def wait_for_answer(server: Server, port: int, path: str, body: bytes) -> None:
    """Return once a call is answered well. Raises ConnectionError if the server ends first."""

    def has_answered() -> bool:
        if server.process.poll() is not None:
            raise ConnectionError(f"{server.process.args!r} ended with {server.process.returncode}")
        return answers(port, path, body)

    until(has_answered, ANSWER_S, f"a good answer to POST {path}", _STEP_S)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether somebody listens on this port of this machine."""
    with socket.socket() as sock:
        sock.settimeout(1.0)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def cpu_s(pid: int) -> float:
    """What the process has used of the processors so far, in seconds; 0 if it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def memory_mb(pid: int) -> float:
    """Resident memory, MiB."""
    return float(psutil.Process(pid).memory_info().rss) / _MIB


def own_memory_mb(pid: int) -> tuple[float, float]:
    """Memory that is this process's alone, and its share of all it uses (PSS), MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024, kib["Pss"] / 1024


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []
