"""Real servers for integration tests: shared ones where they answer, private ones to be killed.

The fixtures ``rabbitmq_url``, ``redis_url`` and ``postgres_url`` give shared servers. On RabbitMQ
what tests make is told apart by the project's name (:func:`project_name`); on Redis a module has a
database number of its own, on PostgreSQL a database of its own. The starters ``private_…()`` run a
server of the test's own, with its own port and data.

Where a service is absent its tests skip and say why; with SKIPPER_TEST_SERVICES=required they fail.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from skipper.launcher import valkey
from skipper.settings.handover import make_run_dir
from skipper.settings.model import Settings

RABBITMQ = ("127.0.0.1", 5672)
REDIS = ("127.0.0.1", 6379)
POSTGRES = ("127.0.0.1", 5432)

START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0


def project_name() -> str:
    """A project's name that nobody else uses: queues and schemas carry it."""
    return f"t{secrets.token_hex(5)}"


def wait_until(condition: Callable[[], object], limit_s: float = 60.0, what: str = "") -> None:
    """Return as soon as ``condition()`` is true; fail the test when it never is."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {limit_s} s: {what or condition}")
        time.sleep(0.01)


def absent(reason: str) -> NoReturn:
    """Skip the test, or fail it where services are required."""
    if os.environ.get("SKIPPER_TEST_SERVICES") == "required":
        pytest.fail(f"SKIPPER_TEST_SERVICES=required, but {reason}")
    pytest.skip(reason)


def accepts(address: tuple[str, int] | str) -> bool:
    """Whether somebody listens at a TCP address or unix socket."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(1.0)
        return sock.connect_ex(address) == 0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# --- private servers -------------------------------------------------------------------------


@dataclass(kw_only=True)
class Server:
    """A server of the test's own. ``start`` returns once it answers; data outlive ``kill``."""

    url: str
    command: list[str]
    is_up: Callable[[], bool]
    folder: Path
    user: str | None = None
    environment: Mapping[str, str] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """Its leader's; 0 before the first start."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment,
                user=self.user,
                start_new_session=True,
            )
        wait_until(self._has_started, START_LIMIT_S, f"{self.command[0]} answers")

    def _has_started(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"{self.command[0]} ended:\n{self.log.read_text(errors='replace')[-3000:]}")
        return self.is_up()

    def stop(self) -> None:
        """End it as its owner would."""
        assert self._process is not None
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to all of it; returns once it answers no more."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(STOP_LIMIT_S)
        # RabbitMQ's leader is a shell: the node itself may take a little longer to be gone.
        wait_until(lambda: not self.is_up(), STOP_LIMIT_S, f"{self.command[0]} is gone")

    def pause(self) -> None:
        """Make it hang: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        if server._process is not None:  # it may not even have been started
            server.kill()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A short folder: unix socket paths are limited."""
    with tempfile.TemporaryDirectory(prefix="skp-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextlib.contextmanager
def private_valkey(settings: Settings) -> Iterator[Server]:
    """The embedded broker of ``settings``, as the launcher would start it."""
    run_dir = make_run_dir(settings)
    folder = settings.state_dir / "broker"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = run_dir / "valkey.conf"
    file.write_text(valkey.configuration(settings))
    address = str(run_dir / "v.sock")
    server = Server(
        url=settings.broker_url,
        command=[str(valkey.find_server()), str(file)],
        is_up=lambda: accepts(address),
        folder=folder,
    )
    try:
        with _running(server):
            yield server
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


@contextlib.contextmanager
def private_redis() -> Iterator[Server]:
    """A Redis on a TCP port, with an append-only file."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        absent("there is no redis-server on the PATH")
    port = free_port()
    with _folder() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        server = Server(
            url=f"redis://127.0.0.1:{port}/0",
            command=[*command, "--appendonly", "yes", "--save", ""],
            is_up=lambda: accepts(("127.0.0.1", port)),
            folder=folder,
        )
        with _running(server):
            yield server


@contextlib.contextmanager
def private_rabbitmq(configuration: str = "", advanced: str = "[].") -> Iterator[Server]:
    """A RabbitMQ node, up in 5 to 10 s.

    ``configuration`` goes into its ``rabbitmq.conf``, ``advanced`` is its ``advanced.config``.
    """
    program = _rabbitmq_program()
    if program is None:
        absent("there is no rabbitmq-server on this machine")
    port = free_port()
    with _folder() as folder:
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{port}\nlog.console.level = warning\n{configuration}\n"
        )
        (folder / "advanced.config").write_text(advanced)
        (folder / "plugins").write_text("[].\n")
        server = Server(
            url=f"amqp://guest:guest@127.0.0.1:{port}//",
            command=[program],
            is_up=lambda: accepts(("127.0.0.1", port)),
            folder=folder,
            environment=_rabbitmq_environment(folder),
        )
        with _running(server):
            yield server


def _rabbitmq_program() -> str | None:
    """The server's script; the one on Debian's PATH insists on being root or rabbitmq."""
    below = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return str(below) if below.exists() else shutil.which("rabbitmq-server")


def _rabbitmq_environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),  # the Erlang cookie is made there
        "LANG": "C.UTF-8",
        "RABBITMQ_NODENAME": f"{project_name()}@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }


@contextlib.contextmanager
def private_postgres() -> Iterator[Server]:
    """A PostgreSQL of its own. The server refuses to run as root: there it runs as ``postgres``."""
    programs = _postgres_programs()
    if programs is None:
        absent("there is no PostgreSQL server on this machine")
    user = "postgres" if os.getuid() == 0 else None
    port = free_port()
    with _folder() as folder:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data = str(folder / "data")
        make = [str(programs / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(make, check=True, user=user, capture_output=True, cwd=folder)
        command = [str(programs / "postgres"), "-D", data, "-k", str(folder), "-p", str(port)]
        server = Server(
            url=f"postgresql://postgres@127.0.0.1:{port}/postgres",
            command=[*command, "-c", "listen_addresses=127.0.0.1"],
            is_up=lambda: _postgres_answers(programs, port),
            folder=folder,
            user=user,
            stop_signal=signal.SIGINT,  # "fast": it does not wait for clients to leave
        )
        with _running(server):
            yield server


def _postgres_programs() -> Path | None:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = str(versions[-1]) if versions else shutil.which("initdb")
    return Path(found).parent if found else None


def _postgres_answers(programs: Path, port: int) -> bool:
    command = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(command, check=False).returncode == 0


# --- shared servers --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rabbitmq_url() -> str:
    """The shared RabbitMQ."""
    if not accepts(RABBITMQ):
        absent(f"no RabbitMQ answers at {RABBITMQ[0]}:{RABBITMQ[1]}")
    return f"amqp://guest:guest@{RABBITMQ[0]}:{RABBITMQ[1]}//"


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """An empty database of the shared Redis, emptied again afterwards."""
    if not accepts(REDIS):
        absent(f"no Redis answers at {REDIS[0]}:{REDIS[1]}")
    import redis

    for number in range(1, 16):
        client: Any = redis.Redis(*REDIS, db=number)
        with contextlib.closing(client):
            if not client.dbsize() and client.set("skipper-test", os.getpid(), nx=True, ex=900):
                try:
                    yield f"redis://{REDIS[0]}:{REDIS[1]}/{number}"
                finally:
                    client.flushdb()
                return
    absent("every database of the shared Redis is in use")


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """A database of its own on the shared PostgreSQL."""
    if not accepts(POSTGRES):
        absent(f"no PostgreSQL answers at {POSTGRES[0]}:{POSTGRES[1]}")
    psycopg = pytest.importorskip("psycopg")
    server, name = f"postgresql://postgres@{POSTGRES[0]}:{POSTGRES[1]}", f"skipper_{project_name()}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{server}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[Server]:
    """One private RabbitMQ for all tests that stop or kill it; leave it running."""
    with private_rabbitmq() as server:
        yield server
