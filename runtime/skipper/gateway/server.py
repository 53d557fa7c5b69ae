"""The gateway process: our own connections on uvicorn's server, on the socket of the launcher."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Iterator

import uvicorn

from skipper import role as roles
from skipper.gateway.access.policy import open_policy
from skipper.gateway.app import Gateway
from skipper.gateway.audit import open_audit
from skipper.gateway.certificate import offered
from skipper.gateway.context import open_context
from skipper.gateway.http import descriptors
from skipper.gateway.http.access_log import AccessLog
from skipper.gateway.http.connection import ServerConnection
from skipper.gateway.http.connections import Connections
from skipper.gateway.http.limits import Limits
from skipper.role import Role
from skipper.settings.model import GatewaySettings


class _Server(uvicorn.Server):
    """Leaves signals to the role, and gives a TLS handshake no more than ``handshake_s``."""

    def __init__(self, config: uvicorn.Config, *, handshake_s: float) -> None:
        super().__init__(config)
        self._handshake_s = handshake_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        context = self.config.ssl
        if not sockets or context is None:
            await super().startup(sockets)
            return
        loop = asyncio.get_running_loop()
        connect = functools.partial(
            self.config.http_protocol_class,  # type: ignore[call-arg] # uvicorn's protocols take them
            config=self.config,
            server_state=self.server_state,
            app_state={},
        )
        self.servers = [
            await loop.create_server(
                connect, sock=sock, ssl=context, ssl_handshake_timeout=self._handshake_s
            )
            for sock in sockets
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _nothing(scope: object, receive: object, send: object) -> None:
    """What uvicorn is given for an application, which it never asks: the connections are ours."""


def limits_of(settings: GatewaySettings) -> Limits:
    """What one process may have of connections, by its settings and its descriptors."""
    return Limits(
        connections=descriptors.bound(settings.connections),
        head_s=settings.head_timeout_s,
        stall_s=settings.stall_timeout_s,
    )


async def _main(role: Role, stopping: asyncio.Event) -> None:
    settings = role.settings
    with (
        open_audit(settings, role.name) as audit,
        open_policy(settings.gateway, role.name) as policy,
    ):
        async with open_context(settings) as context, offered(settings) as tls:
            await _serve(role, Gateway(context, policy, audit), tls, stopping)


async def _serve(
    role: Role, gateway: Gateway, tls: ssl.SSLContext | None, stopping: asyncio.Event
) -> None:
    settings = role.settings
    access_log = AccessLog(asyncio.get_running_loop().time) if settings.log.access else None
    connections = Connections(limits_of(settings.gateway), gateway.budget, access_log=access_log)

    def connect(**_: object) -> ServerConnection:
        return ServerConnection(gateway, connections)

    server = _Server(
        uvicorn.Config(
            _nothing,
            loop="none",
            http=connect,  # type: ignore[arg-type] # it is only ever called
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            timeout_graceful_shutdown=max(1, int(settings.run.grace_s)),
            backlog=2048,
            ssl_context_factory=(lambda *_: tls) if tls is not None else None,
        ),
        handshake_s=settings.gateway.head_timeout_s,
    )
    server.server_state.connections = connections.open
    server.server_state.tasks = connections.tasks
    sockets = [socket.socket(fileno=role.listen_fd)] if role.listen_fd is not None else None
    if sockets is None:
        server.config.host, server.config.port = settings.gateway.host, settings.gateway.port
    async with connections.swept():
        serving = asyncio.create_task(server.serve(sockets))
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        if server.started:
            role.ready()
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        gateway.drain()
        server.should_exit = True
        await serving
        connections.cut()
        waiting.cancel()


def main(argv: list[str] | None = None) -> None:
    """Run the gateway until it is asked to stop."""
    roles.run(Role.start("Gateway", argv), _main)
