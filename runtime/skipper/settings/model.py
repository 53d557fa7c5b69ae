"""Settings: one frozen model of all that can be set.

:mod:`skipper.settings.loading` reads them. What is a list, a secret or a table of the user's naming
follows from the annotations here (:mod:`skipper.settings.schema`).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, field_validator

from skipper.cron import Missed, Overlap, check_cron, check_timezone
from skipper.settings import environment
from skipper.settings.access import AllowedHost, CorsOrigin, Keys
from skipper.settings.annotations import PLAIN_NAME, FunctionName, JsonData, PlainName
from skipper.settings.masking import SecretUrl, in_clear
from skipper.settings.models import ModelName, ModelSettings
from skipper.settings.plugins import PluginName, PluginTable, PluginValues
from skipper.settings.pools import BUILT_IN, PoolName, PoolSettings, with_built_in
from skipper.settings.proxies import PathPrefix, TrustedProxy
from skipper.settings.urls import check_readable
from skipper.settings.webhooks import SOURCE as WEBHOOKS
from skipper.settings.webhooks import Webhook
from skipper.spec import LONGEST_S, PRIORITIES
from skipper.values.envelope import files_named

LogLevel = Literal["debug", "info", "warning", "error"]
_BROKERS = ("amqp", "amqps", "redis", "rediss", "redis+socket")
_DATABASES = ("postgres", "postgresql", "postgresql+psycopg")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProjectSettings(_Section):
    """Who this project is to brokers and databases that it shares with others."""

    name: str = Field(
        "", description="part of every queue's and schema's name; the folder's name if empty"
    )

    @field_validator("name")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        if value and not re.fullmatch(PLAIN_NAME, value):
            raise ValueError("use lower-case letters, digits, - and _, at most 40 of them")
        return value


class GatewaySettings(_Section):
    """Where REST is served, and to whom."""

    host: str = Field("127.0.0.1", description="address to listen on; beyond loopback needs keys")
    port: int = Field(8000, ge=0, le=65535, description="0 picks a free port")
    socket: str = Field(
        "", description="path of a unix socket to listen on, in place of host and port"
    )
    socket_group: str = Field(
        "", description="group whose members may use the socket beside this user"
    )
    workers: int = Field(1, ge=1, le=64, description="gateway processes that share the port")
    keys: Keys = Field((), description="API keys; with any, every request needs one")
    allowed_hosts: tuple[AllowedHost, ...] = Field(
        (), description="Host names accepted beside loopback's own; *.example.com, * for any"
    )
    cors_origins: tuple[CorsOrigin, ...] = Field(
        (), description="origins of pages that may call, such as https://app.example.com"
    )
    local: Literal["user", "anyone"] = Field(
        "user", description="who of this machine may call where there are no keys"
    )
    tls_cert: str = Field(
        "", description="PEM file: the certificate, and those that lead to its authority"
    )
    tls_key: str = Field(
        "", description="PEM file: its private key; both are read again if changed"
    )
    trusted_proxies: tuple[TrustedProxy, ...] = Field(
        (), description="proxies whose X-Forwarded-… headers count: addresses, networks, unix"
    )
    root_path: PathPrefix = Field(
        "", description="path under which a proxy shows the gateway, such as /ml"
    )
    max_body_mb: float = Field(8.0, gt=0, le=1024, description="largest request body, MiB")
    memory_mb: float = Field(
        256.0, gt=0, description="MiB of bodies and of unread answers, per gateway process"
    )
    connections: int = Field(
        4096, ge=1, le=1_000_000, description="open connections per gateway process"
    )
    head_timeout_s: float = Field(
        10.0, gt=0, description="how long a request's head may take to come"
    )
    stall_timeout_s: float = Field(
        60.0, gt=0, description="how long a body or the reading of an answer may stand still"
    )

    @property
    def shows_tracebacks(self) -> bool:
        """Whether callers see tracebacks: where nobody but this account, at this machine, can call.

        Any other setting about who calls says that others do, or that a proxy stands between.
        """
        others = (self.socket, self.keys, self.allowed_hosts, self.cors_origins)
        proxied = (self.trusted_proxies, self.root_path)
        is_alone = is_loopback(self.host) and self.local == "user"
        return is_alone and not any((*others, *proxied))


class BrokerSettings(_Section):
    """What carries task ids."""

    url: SecretUrl = Field(
        SecretUrl("embedded"), description="embedded, amqp://…, redis://… or redis+socket://…"
    )

    @field_validator("url")
    @classmethod
    def _is_known(cls, value: SecretUrl) -> SecretUrl:
        return _check_scheme(value, "embedded", _BROKERS)


class DatabaseSettings(_Section):
    """Where the ledger lies."""

    url: SecretUrl = Field(
        SecretUrl("sqlite"), description="sqlite (a file under .skipper/) or postgresql://…"
    )

    @field_validator("url")
    @classmethod
    def _is_known(cls, value: SecretUrl) -> SecretUrl:
        return _check_scheme(value, "sqlite", _DATABASES)


def _check_scheme(url: SecretUrl, word: str, schemes: tuple[str, ...]) -> SecretUrl:
    scheme, colon, _ = url.get_secret_value().partition("://")
    if scheme != word and not (colon and scheme in schemes):
        raise ValueError(f"write {word!r} or a URL that begins with {' or '.join(schemes)}://")
    check_readable(url.get_secret_value())
    return url


class StorageSettings(_Section):
    """Where models and large values lie."""

    url: SecretUrl = Field(SecretUrl(""), description="an fsspec URL; .skipper/blobs if empty")
    inline_kb: int = Field(
        64, ge=0, le=1024, description="larger payloads and results go to the store, KiB"
    )


class FileSettings(_Section):
    """What callers may upload, and how long it is kept."""

    max_mb: float = Field(
        1024.0, gt=0, description="one file, raw body or form, MiB, if its function sets no limit"
    )
    quota_gb: float = Field(50.0, gt=0, description="uploaded files that are kept, GB")
    expire_days: float = Field(
        7.0, gt=0, le=LONGEST_S / 86400, description="how long an uploaded file is kept"
    )


class CheckpointSettings(_Section):
    """What tasks hand over to go on from, and how long it is kept."""

    keep: int = Field(1, ge=1, le=100, description="checkpoints kept of a task, the last ones")
    quota_gb: float = Field(50.0, gt=0, description="checkpoints of all tasks that are kept, GB")
    expire_days: float = Field(
        7.0,
        gt=0,
        le=LONGEST_S / 86400,
        description="how long they are kept after their task has ended without success",
    )


class TaskSettings(_Section):
    """How many tasks may wait, how much they may keep, and what callers may ask for."""

    waiting: int = Field(
        10_000, ge=1, description="tasks that may wait per function, delayed ones included"
    )
    stored_gb: float = Field(
        50.0, gt=0, description="inputs and results of all tasks that are kept, GB"
    )
    max_priority: int = Field(
        5,
        ge=PRIORITIES[0],
        le=PRIORITIES[-1],
        description="highest priority that a caller may ask for, if its function has none higher",
    )
    max_delay_days: float = Field(
        30.0, ge=0, le=365, description="longest delay that a caller may ask for"
    )


class ScheduleSettings(_Section):
    """A function that is run as a task at times of the clock."""

    function: str = Field(description="its name: file.function")
    cron: str = Field(description="minute, hour, day of month, month, day of week")
    timezone: str = Field("UTC", description="whose clocks cron is read on, such as Europe/Vilnius")
    missed: Missed = Field(
        Missed.ONCE, description="what becomes of runs while no scheduler was up: once, skip or all"
    )
    overlap: Overlap = Field(
        Overlap.QUEUE,
        description="what a run does while the last goes on: queue, skip, cancel or allow",
    )
    body: JsonData = Field({}, description="the input of each run")
    paused: bool = Field(False, description="whether it waits for `skipper schedules resume`")

    @field_validator("cron")
    @classmethod
    def _comes_true(cls, value: str) -> str:
        return check_cron(value)

    @field_validator("body")
    @classmethod
    def _names_no_file(cls, value: Any) -> Any:
        if (found := next(files_named(value), None)) is not None:
            raise ValueError(
                f"it names the uploaded file {found}, which expires (files.expire_days) while the "
                "schedule goes on: send the content itself, in base64, or have the function read "
                "it from where it lies"
            )
        return value

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        return check_timezone(value)


class RetentionSettings(_Section):
    """How long things are kept."""

    results_days: float = Field(
        7.0, gt=0, description="ended tasks, their inputs, results, events and logs"
    )
    logs_mb: int = Field(64, ge=1, description="the log's files under .skipper/logs together, MiB")
    audit_mb: int = Field(
        64, ge=1, description="the audit's files there together, MiB; half of it is for calls"
    )


class LogSettings(_Section):
    """What `skipper up` shows, and what functions log."""

    level: LogLevel = Field("info", description="the least that is shown, and that functions log")
    levels: dict[FunctionName, LogLevel] = Field(
        {}, description="the same for functions, or files of them, by name"
    )
    format: Literal["pretty", "json"] = Field("pretty", description="for people or for programs")
    access: bool = Field(False, description="a line in the log for each request, once it is over")
    audit: Literal["all", "changes", "off"] = Field(
        "changes", description="a line per request that changes something; all: direct calls, too"
    )

    def level_of(self, function: str) -> LogLevel:
        """The level of a function, its file's where it has none of its own, or everybody's."""
        of_file = self.levels.get(function.partition(".")[0], self.level)
        return self.levels.get(function, of_file)


class RunSettings(_Section):
    """How the tree behaves as a whole."""

    reload: bool | None = Field(
        None, description="follow saved files; by default at a terminal only"
    )
    strict: bool = Field(False, description="a broken function file makes the tree not ready")
    grace_s: float = Field(8.0, ge=0, description="how long a shutdown waits for what is running")
    only: tuple[str, ...] = Field(
        (), description="parts of the tree to run here, such as pool:NAME; all of them if empty"
    )


class Settings(_Section):
    """All settings, plus the folder they were read for."""

    project_dir: Path
    project: ProjectSettings = ProjectSettings()
    gateway: GatewaySettings = GatewaySettings()
    broker: BrokerSettings = BrokerSettings()
    database: DatabaseSettings = DatabaseSettings()
    storage: StorageSettings = StorageSettings()
    pools: dict[PoolName, PoolSettings] = dict(BUILT_IN)
    models: dict[ModelName, ModelSettings] = {}
    schedules: dict[PlainName, ScheduleSettings] = {}
    tasks: TaskSettings = TaskSettings()
    files: FileSettings = FileSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    retention: RetentionSettings = RetentionSettings()
    webhooks: dict[PlainName, Webhook] = {}
    plugins: dict[PluginName, PluginValues] = {}
    log: LogSettings = LogSettings()
    run: RunSettings = RunSettings()

    @field_validator("pools", mode="before")
    @classmethod
    def _with_built_in(cls, value: Any) -> Any:
        return with_built_in(value)

    @property
    def name(self) -> str:
        """The project's id in names of queues and schemas."""
        if self.project.name:
            return self.project.name
        plain = re.sub(r"[^a-z0-9_-]+", "-", self.project_dir.name.lower()).strip("-_")
        return plain[:40] or "project"

    @property
    def local_pools(self) -> tuple[str, ...]:
        """The pools that run in this tree."""
        return tuple(p for p in self.pools if not self.run.only or f"pool:{p}" in self.run.only)

    @property
    def functions_dir(self) -> Path:
        return self.project_dir / "functions"

    @property
    def plugins_dir(self) -> Path:
        return self.project_dir / "plugins"

    @property
    def state_dir(self) -> Path:
        """What outlives the tree: ledger, blobs, the broker's file, logs."""
        return self.project_dir / ".skipper"

    @property
    def run_dir(self) -> Path:
        """What dies with the tree: sockets and locks. Short, because socket paths are limited."""
        digest = hashlib.sha256(str(self.project_dir).encode()).hexdigest()[:10]
        return environment.runtime_base() / f"skipper-{digest}"

    @property
    def spool_dir(self) -> Path:
        """Where large values lie while they are on their way from one process to another."""
        return self.state_dir / "spool"

    @property
    def models_dir(self) -> Path:
        """Where the files of models lie for as long as instances of this machine hold them."""
        return self.state_dir / "models"

    @property
    def set_up_plugins(self) -> frozenset[str]:
        """Names of the plugins that have a table of settings."""
        return frozenset(self.plugins) | ({WEBHOOKS} if self.webhooks else set())

    def table_of(self, plugin: str) -> PluginTable | None:
        """The table of settings of a plugin, secrets included.

        That of the webhooks plugin is ``[webhooks.NAME]``, which gateway, hosts and scheduler read
        too: whoever ends a task must know whether a webhook is for it.
        """
        if plugin not in self.set_up_plugins:
            return None
        if plugin == WEBHOOKS:
            return PluginTable(title=WEBHOOKS, values=in_clear(self.webhooks))
        return PluginTable(title=f"plugins.{plugin}", values=in_clear(self.plugins[plugin]))

    @property
    def storage_url(self) -> str:
        return self.storage.url.get_secret_value() or str(self.state_dir / "blobs")

    @property
    def database_url(self) -> str:
        """The database as SQLAlchemy names it."""
        url = self.database.url.get_secret_value()
        if url == "sqlite":
            return f"sqlite:///{self.state_dir / 'ledger.db'}"
        return re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql+psycopg://", url)

    @property
    def schema(self) -> str:  # type: ignore[override] # BaseModel's own is deprecated
        """The schema of this project in a shared PostgreSQL."""
        return "skipper_" + self.name.replace("-", "_")

    @property
    def broker_is_embedded(self) -> bool:
        return self.broker.url.get_secret_value() == "embedded"

    @property
    def broker_url(self) -> str:
        """The broker as kombu names it."""
        if self.broker_is_embedded:
            return f"redis+socket://{self.run_dir / 'v.sock'}"
        return self.broker.url.get_secret_value()

    @property
    def gateway_socket(self) -> Path | None:
        """The unix socket that the gateway listens on, where it is none on a port."""
        path = self.gateway.socket
        return self.project_dir / Path(path).expanduser() if path else None

    @property
    def tls_files(self) -> tuple[Path, Path] | None:
        """The gateway's certificate and its key, where it speaks TLS itself."""
        pair = self.gateway.tls_cert, self.gateway.tls_key
        if not all(pair):
            return None
        certificate, key = (self.project_dir / Path(each).expanduser() for each in pair)
        return certificate, key

    @property
    def base_url(self) -> str:
        """Where a client on this machine finds the gateway."""
        if self.gateway_socket is not None:
            return f"unix://{quote(str(self.gateway_socket))}"
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - no bind
        host = self.gateway.host.strip("[]")
        host = everywhere.get(host, host)
        scheme = "https" if self.tls_files else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.gateway.port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    return host in ("localhost", "::1", "[::1]") or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))
