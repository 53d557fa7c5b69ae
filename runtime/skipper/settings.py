"""Settings: one frozen model, read from flags > ``SKIPPER_*`` > ``skipper.toml`` > defaults.

The only reader of the process environment. A role process does not read them again: the launcher
hands each child the resolved settings as a file (:func:`dump`, :func:`restore`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from skipper.cron import Missed, check_cron, check_timezone
from skipper.errors import SettingsError
from skipper.webhooks import SigningSecret, Webhook, WebhookName

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FILE_NAME = "skipper.toml"
SECRET_MASK = "********"  # noqa: S105 - what stands in a secret's place
_BROKERS = ("amqp", "amqps", "redis", "rediss", "redis+socket")
_DATABASES = ("postgres", "postgresql", "postgresql+psycopg")
_PLAIN_NAME = r"[a-z0-9][a-z0-9_-]{0,39}"
_SOCKET_PATH_LIMIT = 107  # sun_path of unix(7), less its closing NUL
_OTHER_VARIABLES = {
    "SKIPPER_VALKEY_BIN",
    "SKIPPER_URL",
    "SKIPPER_API_KEY",
    "SKIPPER_TREE",
    "SKIPPER_FAILPOINTS",
}
_OTHER_PREFIXES = ("SKIPPER_TEST_",)


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
        if value and not re.fullmatch(_PLAIN_NAME, value):
            raise ValueError("use lower-case letters, digits, - and _, at most 40 of them")
        return value


class GatewaySettings(_Section):
    """Where REST is served, and to whom."""

    host: str = Field("127.0.0.1", description="address to listen on; beyond loopback needs keys")
    port: int = Field(8000, ge=0, le=65535, description="0 picks a free port")
    workers: int = Field(1, ge=1, le=64, description="gateway processes that share the port")
    keys: tuple[SecretStr, ...] = Field(
        (), description="API keys; with any, every /v1 request needs one"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host names accepted beside loopback's own"
    )
    max_body_mb: float = Field(8.0, gt=0, le=1024, description="largest request body, MiB")


class BrokerSettings(_Section):
    """What carries task ids."""

    url: SecretStr = Field(
        SecretStr("embedded"), description="embedded, amqp://…, redis://… or redis+socket://…"
    )

    @field_validator("url")
    @classmethod
    def _is_known(cls, value: SecretStr) -> SecretStr:
        return _check_scheme(value, "embedded", _BROKERS)


class DatabaseSettings(_Section):
    """Where the ledger lies."""

    url: SecretStr = Field(
        SecretStr("sqlite"), description="sqlite (a file under .skipper/) or postgresql://…"
    )

    @field_validator("url")
    @classmethod
    def _is_known(cls, value: SecretStr) -> SecretStr:
        return _check_scheme(value, "sqlite", _DATABASES)


def _check_scheme(url: SecretStr, word: str, schemes: tuple[str, ...]) -> SecretStr:
    scheme, colon, _ = url.get_secret_value().partition("://")
    if scheme != word and not (colon and scheme in schemes):
        raise ValueError(f"write {word!r} or a URL that begins with {' or '.join(schemes)}://")
    return url


class StorageSettings(_Section):
    """Where models and large values lie."""

    url: str = Field("", description="an fsspec URL; .skipper/blobs if empty")
    inline_kb: int = Field(
        64, ge=0, le=1024, description="larger payloads and results go to the store, KiB"
    )


class PoolSettings(_Section):
    """One hardware class. Direct calls and tasks have separate capacity."""

    slots: int = Field(
        0, ge=0, le=1024, description="direct calls at once; 0 means twice the cores"
    )
    task_slots: int = Field(0, ge=0, le=1024, description="tasks at once; 0 means the cores")
    queue: int = Field(1000, ge=1, description="direct calls that may wait per function")
    queue_total: int = Field(4000, ge=1, description="direct calls that may wait in the pool")
    queue_wait_s: float = Field(30.0, gt=0, description="how long a direct call may wait, seconds")
    idle_instances: int = Field(
        64, ge=0, description="idle instances kept at most, those of `min=` apart"
    )
    memory_mb: int = Field(
        0, ge=0, description="limit per instance, MiB; 0 means half the machine's memory"
    )
    max_result_mb: float = Field(
        32.0, gt=0, le=512, description="largest value that a function may return, MiB of JSON"
    )
    start: Literal["auto", "fork", "spawn"] = Field("auto", description="how instances start")
    require_device: bool = Field(False, description="refuse to start the gpu pool without a GPU")
    load_timeout_s: float = Field(
        120.0, gt=0, description="how long a file, a model or a template may load"
    )


class ScheduleSettings(_Section):
    """A function that is run as a task at times of the clock."""

    function: str = Field(description="its name: file.function")
    cron: str = Field(description="minute, hour, day of month, month, day of week")
    timezone: str = Field("UTC", description="whose clocks cron is read on, such as Europe/Vilnius")
    missed: Missed = Field(
        Missed.ONCE, description="what becomes of runs while no scheduler was up: once, skip or all"
    )
    body: Any = Field({}, description="the input of each run")
    paused: bool = Field(False, description="whether it waits for `skipper schedules resume`")

    @field_validator("cron")
    @classmethod
    def _comes_true(cls, value: str) -> str:
        return check_cron(value)

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        return check_timezone(value)

    @field_validator("body")
    @classmethod
    def _is_json(cls, value: Any) -> Any:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("write what JSON can say: no dates, no nan, no inf") from None
        return value


class RetentionSettings(_Section):
    """How long things are kept."""

    results_days: float = Field(
        7.0, gt=0, description="ended tasks, their inputs, results, events and logs"
    )
    logs_mb: int = Field(64, ge=1, description="all log files under .skipper/logs together, MiB")


class LogSettings(_Section):
    """What `skipper up` shows."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least that is shown"
    )
    format: Literal["pretty", "json"] = Field("pretty", description="for people or for programs")


class RunSettings(_Section):
    """How the tree behaves as a whole."""

    reload: bool | None = Field(
        None, description="follow saved files; by default at a terminal only"
    )
    strict: bool = Field(False, description="a broken function file makes the tree not ready")
    grace_s: float = Field(8.0, ge=0, description="how long a shutdown waits for what is running")
    only: tuple[str, ...] = Field(
        (), description="parts of the tree to run here, such as pool:gpu; all of them if empty"
    )


_TABLES: dict[str, type[BaseModel]] = {"schedules": ScheduleSettings, "webhooks": Webhook}
"""Sections that hold a table per name that the user has chosen."""
_OF_SOURCES = ("webhooks",)
"""Of those, what belongs to the source of functions of that name."""


class Settings(_Section):
    """All settings, plus the folder they were read for."""

    project_dir: Path
    project: ProjectSettings = ProjectSettings()
    gateway: GatewaySettings = GatewaySettings()
    broker: BrokerSettings = BrokerSettings()
    database: DatabaseSettings = DatabaseSettings()
    storage: StorageSettings = StorageSettings()
    pools: dict[Literal["cpu", "gpu"], PoolSettings] = {
        "cpu": PoolSettings(),
        "gpu": PoolSettings(),
    }
    schedules: dict[str, ScheduleSettings] = {}
    retention: RetentionSettings = RetentionSettings()
    webhooks: dict[WebhookName, Webhook] = {}
    log: LogSettings = LogSettings()
    run: RunSettings = RunSettings()

    @field_validator("pools")
    @classmethod
    def _both_pools(cls, value: dict[str, PoolSettings]) -> dict[str, PoolSettings]:
        return {"cpu": PoolSettings(), "gpu": PoolSettings()} | value

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
        return _runtime_base() / f"skipper-{digest}"

    @property
    def set_up_sources(self) -> frozenset[str]:
        """Names of the sources of functions that have a table of settings."""
        return frozenset(name for name in _OF_SOURCES if getattr(self, name))

    def of_source(self, name: str) -> dict[str, Any]:
        """The table of settings of a source of functions, secrets included; JSON data."""
        if name not in self.set_up_sources:
            return {}
        tables: dict[str, Any] = json.loads(_as_json(getattr(self, name)))
        return tables

    @property
    def storage_url(self) -> str:
        return self.storage.url or str(self.state_dir / "blobs")

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
    def base_url(self) -> str:
        """Where a client on this machine finds the gateway."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - no bind
        host = self.gateway.host.strip("[]")
        host = everywhere.get(host, host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.gateway.port}"


# --- reading ---------------------------------------------------------------------------------


def load(
    project_dir: Path | None = None, flags: Mapping[str, Any] | None = None
) -> tuple[Settings, dict[str, str]]:
    """Read the settings of the project in ``project_dir`` (default: the nearest one upwards).

    ``flags`` maps dotted names (``"gateway.port"``) to values; ``None`` values are left out.
    Returns the settings and, per dotted name, where its value came from. Raises
    :class:`SettingsError` with one sentence per wrong key.
    """
    folder = (project_dir or find_project()).resolve()
    if not folder.is_dir():
        raise SettingsError(f"{folder} is not a folder; name the project's with --project DIR.")
    written = [*_toml_layer(folder / FILE_NAME)]
    tables = _tables_in(name for name, _, _ in written)
    known = _known_names(tables)
    layers = [
        *written,
        *_environment_layer(known),
        *((name, value, "flag") for name, value in (flags or {}).items() if value is not None),
    ]
    values: dict[str, Any] = {"project_dir": folder}
    origins: dict[str, str] = {}
    for name, value, origin in layers:
        _check_known(name, origin, known, tables)
        _put(values, name.split("."), value)
        origins[name] = origin
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error, origins)) from None
    _check_exposure(settings)
    _check_webhooks(settings, origins)
    return settings, {name: origins.get(name, "default") for name, _ in leaves(settings)}


def find_project() -> Path:
    """The nearest folder upwards from here that holds ``skipper.toml``, else here."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder
    return here


def leaves(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Each dotted name with its value, secrets masked."""

    def walk(section: BaseModel, prefix: str) -> Iterator[tuple[str, Any]]:
        for key in type(section).model_fields:
            if key == "project_dir":
                continue
            yield from expand(getattr(section, key), prefix + key)

    def expand(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, BaseModel):
            yield from walk(value, name + ".")
        elif isinstance(value, dict) and name in ("pools", *_TABLES):
            for key, item in sorted(value.items()):
                yield from expand(item, f"{name}.{key}")
        else:
            yield name, masked(value)

    yield from walk(settings, "")


def masked(value: Any) -> Any:
    """``value`` with secrets replaced: keys whole, URLs in their passwords only."""
    if isinstance(value, SigningSecret):
        return SECRET_MASK
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str) and "://" in value:
        # The last @ ends the password, which may hold @, : and / of its own.
        value = re.sub(r"(://[^:@]*):.*@", rf"\1:{SECRET_MASK}@", value)
        return re.sub(r"((?:password|secret|key|token)[^=&?]*=)[^&]*", rf"\1{SECRET_MASK}", value)
    if isinstance(value, tuple):
        return [SECRET_MASK if isinstance(item, SecretStr) else item for item in value]
    return value


def _toml_layer(file: Path) -> Iterator[tuple[str, Any, str]]:
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not valid TOML: {error}.") from None
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}.") from None
    for name, value in _flatten(data, ""):
        yield name, value, f"{file.name}:{_line_of(file, name)}"


def _flatten(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        is_table = isinstance(value, dict) and not _SCHEDULES_BODY.fullmatch(prefix + key)
        if is_table and (value or _is_section(prefix + key)):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


_SCHEDULES_BODY = re.compile(r"schedules\.[^.]+\.body")


def _is_section(name: str) -> bool:
    return name in _TABLES or any(known.startswith(name + ".") for known in _known_names())


def _tables_in(names: Iterable[str]) -> set[str]:
    """The tables of the user's naming that these settings stand in: ``webhooks.ops``."""
    paths = (name.split(".") for name in names)
    return {".".join(path[:2]) for path in paths if path[0] in _TABLES and len(path) > 1}


def _type_in_table(name: str) -> Any:
    """The type of a setting in a table of the user's naming; None for any other."""
    section, member = name.partition(".")[0], name.rpartition(".")[2]
    fields = _TABLES[section].model_fields if section in _TABLES else {}
    return fields[member].annotation if member in fields else None


def _line_of(file: Path, name: str) -> int:
    """The line on which ``name`` is set: the key's own, or that of the inline table around it."""
    table = ""
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if header := re.match(r"\s*\[+([^\]]+)\]", line):
            table = _plain_key(header[1]) + "."
            set_here = table.rstrip(".")
            if set_here == name:  # an empty table
                return number
        elif assignment := re.match(r"([^=#]+)=", line):
            set_here = table + _plain_key(assignment[1])
            if name == set_here or name.startswith(set_here + "."):
                return number
    return 1


def _plain_key(key: str) -> str:
    return ".".join(part.strip(" \t\"'") for part in key.split("."))


def _environment_layer(known: Iterable[str]) -> Iterator[tuple[str, Any, str]]:
    names = {_variable(name): name for name in known}
    for variable, text in sorted(os.environ.items()):
        if not variable.startswith("SKIPPER_") or variable in _OTHER_VARIABLES:
            continue
        if variable.startswith(_OTHER_PREFIXES):
            continue
        if variable not in names:
            raise SettingsError(f"Environment: no setting {variable}{_nearest(variable, names)}")
        name = names[variable]
        is_list = name in ("gateway.keys", "gateway.allowed_hosts", "run.only")
        is_list |= get_origin(_type_in_table(name)) is tuple
        yield name, [part for part in text.split(",") if part] if is_list else text, f"${variable}"


def _variable(name: str) -> str:
    return "SKIPPER_" + name.upper().replace(".", "_").replace("-", "_")


def _known_names(tables: Iterable[str] = ()) -> list[str]:
    """Every setting, those of the user's own ``tables`` included."""
    fixed = [name for name, _ in leaves(Settings(project_dir=Path()))]
    return fixed + [
        f"{table}.{member}"
        for table in sorted(tables)
        for member in _TABLES[table.partition(".")[0]].model_fields
    ]


def _check_known(name: str, origin: str, known: list[str], tables: set[str]) -> None:
    section, *rest = name.split(".")
    if name in _TABLES:
        raise SettingsError(f"{origin}: {name} holds tables: write [{name}.NAME].")
    if section in _TABLES and rest and not re.fullmatch(_PLAIN_NAME, rest[0]):
        raise SettingsError(
            f"{origin}: {section}.{rest[0]}: use lower-case letters, digits, - and _, at most 40."
        )
    if name not in known and name not in tables:
        raise SettingsError(f"{origin}: no setting {name!r}{_nearest(name, known)}")


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else "; `skipper config show` lists them all."


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
    values[path[-1]] = value


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    return "\n".join(_sentence(item, origins) for item in error.errors())


def _sentence(item: ErrorDetails, origins: Mapping[str, str]) -> str:
    name = ".".join(map(str, item["loc"]))
    if item["type"] == "missing":
        table, _, member = name.rpartition(".")
        return f"{_origin_of_table(name, origins)}: {table} needs {member} = …"
    while name not in origins and "." in name:  # an item of a list: its setting
        name = name.rpartition(".")[0]
    is_secret = name in ("gateway.keys", "broker.url", "database.url")
    is_secret |= _type_in_table(name) in (SecretStr, SigningSecret)
    shown = "" if is_secret else f" = {item['input']!r}"
    message = item["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{origins.get(name, 'settings')}: {name}{shown}: {message}."


def _origin_of_table(name: str, origins: Mapping[str, str]) -> str:
    """Where the table around ``name`` is first written."""
    table = name.rpartition(".")[0]
    inside = (origin for key, origin in origins.items() if f"{key}.".startswith(f"{table}."))
    return next(inside, "settings")


def _check_exposure(settings: Settings) -> None:
    gateway = settings.gateway
    if not is_loopback(gateway.host) and not gateway.keys:
        raise SettingsError(
            f"gateway.host = {gateway.host!r} is reachable from other machines, and gateway.keys "
            "is empty. Set keys (for instance SKIPPER_GATEWAY_KEYS=$(openssl rand -hex 24)) or "
            "listen on 127.0.0.1."
        )


def _check_webhooks(settings: Settings, origins: Mapping[str, str]) -> None:
    for name, webhook in settings.webhooks.items():
        if not webhook.is_encrypted and not webhook.allow_private:
            setting = f"webhooks.{name}.url"
            raise SettingsError(
                f"{origins.get(setting, 'settings')}: {setting}: plain http is for private "
                "addresses: write https://, or set allow_private = true."
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    return host in ("localhost", "::1", "[::1]") or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


# --- handing on to child processes -----------------------------------------------------------


def dump(settings: Settings, file: Path) -> None:
    """Write ``settings``, secrets included, to ``file``, readable by its owner alone."""
    text = _as_json(settings)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def _as_json(value: Any) -> str:
    """The JSON of settings, secrets in clear."""

    def plain(value: Any) -> Any:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        if isinstance(value, BaseModel):
            return value.model_dump()
        return str(value)

    return json.dumps(value, default=plain)


def restore(file: Path) -> Settings:
    """The settings that :func:`dump` wrote."""
    return Settings.model_validate_json(file.read_text("utf-8"))


# --- the environment, for the few who need more of it than settings ---------------------------


def _runtime_base() -> Path:
    """A short folder of this user's own for sockets."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    is_short = 0 < len(base) < _SOCKET_PATH_LIMIT - 40
    if is_short and Path(base).is_dir() and os.access(base, os.W_OK):
        return Path(base)
    temporary = tempfile.gettempdir()
    if len(temporary) > _SOCKET_PATH_LIMIT - 50:
        temporary = "/tmp"  # noqa: S108 - the folder in it is made 0700 and checked below
    return Path(temporary) / f"skp-{os.getuid()}"


def make_run_dir(settings: Settings) -> Path:
    """Make the run folder, private to this user.

    Raises :class:`SettingsError` where it is someone else's.
    """
    folder = settings.run_dir
    for part in (folder.parent, folder):
        if part == folder or part.name.startswith("skp-"):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(part)
    return folder


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SettingsError(
            f"{folder} must be a folder of your own that nobody else can open; remove it and "
            "start again."
        )


def client_environment() -> tuple[str | None, str | None]:
    """``$SKIPPER_URL`` and ``$SKIPPER_API_KEY``, for clients outside a project."""
    return os.environ.get("SKIPPER_URL"), os.environ.get("SKIPPER_API_KEY")


def valkey_binary() -> str | None:
    """``$SKIPPER_VALKEY_BIN``."""
    return os.environ.get("SKIPPER_VALKEY_BIN")


def tree_mark() -> str:
    """``$SKIPPER_TREE``: which process tree this process belongs to."""
    return os.environ.get("SKIPPER_TREE", "")


def failpoints_folder() -> str:
    """``$SKIPPER_FAILPOINTS``: where fault campaigns arm failpoints; empty in ordinary life."""
    return os.environ.get("SKIPPER_FAILPOINTS", "")


def child_environment(tree: str, **extra: str) -> dict[str, str]:
    """The environment of a child process: this one's without Skipper's settings, and a mark.

    The mark names its tree: by it the guard finds every descendant after the tree is gone.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SKIPPER_")}
    if folder := failpoints_folder():
        kept["SKIPPER_FAILPOINTS"] = folder
    return kept | {"SKIPPER_TREE": tree} | extra


def thread_limits(threads: int) -> dict[str, str]:
    """Variables that hold native thread pools to ``threads``, for libraries yet to be loaded."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS")
    # OpenMP's idle threads spin by default, which on shared cores takes time from those that work.
    return dict.fromkeys(names, str(threads)) | {"OMP_WAIT_POLICY": "PASSIVE"}


def adopt_environment(variables: Mapping[str, str]) -> None:
    """Set variables of this very process: an instance does so before it imports anything."""
    os.environ.update(variables)


def wants_colour(is_terminal: bool) -> bool:
    """Whether to write in colour: on a terminal, unless NO_COLOR, FORCE_COLOR or TERM say else."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return os.environ["FORCE_COLOR"] != "0"
    return is_terminal and os.environ.get("TERM") not in (None, "", "dumb")


def wants_animation(is_terminal: bool) -> bool:
    """Whether to draw what moves: on a terminal that can, with a person before it."""
    is_capable = os.environ.get("TERM") not in (None, "", "dumb")
    return is_terminal and is_capable and not os.environ.get("CI")
