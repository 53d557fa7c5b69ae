"""Brokers and databases beside what is measured: a Redis of our own, this machine's others."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from bench import peers
from bench.calls import until
from bench.options import Bench
from bench.processes import Server, accepts, free_port, running, start
from skipper.launcher import valkey


@contextlib.contextmanager
def redis_server() -> Iterator[tuple[int, Server]]:
    """The port of a Redis, and itself: without any persistence, which is how it is fastest."""
    program = shutil.which("redis-server") or valkey.find_server()
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running(start([*command, "--appendonly", "no"], "redis", folder=peers.WORK)) as server:
        until(lambda: accepts(port), 10.0, "Redis accepts connections")
        yield port, server


@contextlib.contextmanager
def rabbitmq_and_postgres(bench: Bench) -> Iterator[Mapping[str, str]]:
    """Settings of a project on this machine's RabbitMQ and PostgreSQL, of which nothing remains.

    Raises :class:`~bench.peers.MissingError` where one of them does not answer.
    """
    name = f"bench-{secrets.token_hex(4)}"
    with postgres(bench) as database, _queues(bench.rabbitmq, name):
        yield {"project.name": name, "broker.url": bench.rabbitmq, "database.url": database}


@contextlib.contextmanager
def postgres(bench: Bench) -> Iterator[str]:
    """The URL of a new database, dropped afterwards. Raises as above."""
    import psycopg

    _need("PostgreSQL", bench.postgres)
    name = f"skipper_bench_{secrets.token_hex(4)}"
    try:
        server = psycopg.connect(bench.postgres, autocommit=True)
    except psycopg.OperationalError as error:
        raise peers.MissingError(f"PostgreSQL lets nobody in: {error}") from None
    with contextlib.closing(server):
        server.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield urlsplit(bench.postgres)._replace(path=f"/{name}").geturl()
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextlib.contextmanager
def _queues(url: str, project: str) -> Iterator[None]:
    """Delete the project's queues after the block."""
    from kombu.connection import Connection

    _need("RabbitMQ", url)
    try:
        yield
    finally:
        with Connection(url) as connection:  # type: ignore[no-untyped-call] # kombu has few types
            for pool in ("cpu", "gpu"):
                connection.channel().queue_delete(f"skipper.{project}.{pool}")


def _need(name: str, url: str) -> None:
    port = urlsplit(url).port
    if port is None or not accepts(port):
        raise peers.MissingError(f"no {name} answers on port {port} of 127.0.0.1")
