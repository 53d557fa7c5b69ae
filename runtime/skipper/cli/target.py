"""Which gateway a verb asks: the one at ``--url``, or the project's own."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

import typer

from skipper.errors import SettingsError, UnavailableError

if TYPE_CHECKING:
    import ssl

    from skipper.client import AsyncClient, Client
    from skipper.settings.model import Settings

Project = Annotated[
    Path | None,
    typer.Option("--project", metavar="DIR", help="The project; default: the nearest upwards."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Ask this gateway; default: $SKIPPER_URL."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A gateway, the key to it, and the flags that name it again in a hint."""

    url: str
    key: str | None = None
    flags: str = ""
    certificate: Path | None = None
    """The gateway's own, where it is known to be; else the machine's authorities vouch for it."""

    def curl(self, path: str) -> str:
        """What curl is given to ask for ``path``."""
        if self.url.startswith("unix:"):
            socket = unquote(self.url.removeprefix("unix://"))
            return f"--unix-socket {shlex.quote(socket)} http://localhost{path}"
        return f"{self.url}{path}"

    def client(self, timeout_s: float | None = None) -> Client:
        from skipper.client import Client

        return Client(self.url, api_key=self.key, timeout=timeout_s, tls=self._tls())

    def async_client(self) -> AsyncClient:
        from skipper.client import AsyncClient

        return AsyncClient(self.url, api_key=self.key, tls=self._tls())

    def _tls(self) -> ssl.SSLContext | None:
        from skipper import tls

        try:
            return tls.pinned(self.certificate) if self.certificate else None
        except ValueError as error:
            raise SettingsError(f"gateway.tls_cert: {error}.") from None


def target(project: Path | None, url: str | None) -> Target:
    """``--url``, else ``--project``'s tree, else ``$SKIPPER_URL``, else the project's here."""
    from skipper.settings.environment import client_environment
    from skipper.settings.loading import load_sections

    if url:
        return Target(url=url, flags=f" --url {shlex.quote(url)}")
    environment_url, _ = client_environment()
    if environment_url and project is None:
        return Target(url=environment_url)
    settings = load_sections(project, "gateway")
    flags = f" --project {shlex.quote(str(project))}" if project else ""
    return own_target(settings, _running_at(settings) or settings.base_url, flags)


def own_target(settings: Settings, url: str, flags: str = "") -> Target:
    """The gateway of the project that ``settings`` are of, which is at ``url`` now."""
    keys, pair = settings.gateway.keys, settings.tls_files
    return Target(
        url=url,
        key=keys[0].get_secret_value() if keys else None,
        flags=flags,
        certificate=pair[0] if pair else None,
    )


def _running_at(settings: Settings) -> str | None:
    """The address that the project's tree really has: its port may have been a flag's."""
    from skipper.launcher import client

    with contextlib.suppress(UnavailableError):
        tree = client.status(settings)
        return tree["url"] if tree else None
    return None
