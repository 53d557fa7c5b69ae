"""Where settings come from: flags > ``SKIPPER_*`` > ``skipper.toml`` > defaults."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from skipper.errors import SettingsError
from skipper.settings import environment
from skipper.settings.model import PLAIN_NAME, TABLES, Settings, is_loopback, masked
from skipper.settings.webhooks import SigningSecret

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FILE_NAME = "skipper.toml"


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
        elif isinstance(value, dict) and name in ("pools", *TABLES):
            for key, item in sorted(value.items()):
                yield from expand(item, f"{name}.{key}")
        else:
            yield name, masked(value)

    yield from walk(settings, "")


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
    return name in TABLES or any(known.startswith(name + ".") for known in _known_names())


def _tables_in(names: Iterable[str]) -> set[str]:
    """The tables of the user's naming that these settings stand in: ``webhooks.ops``."""
    paths = (name.split(".") for name in names)
    return {".".join(path[:2]) for path in paths if path[0] in TABLES and len(path) > 1}


def _type_in_table(name: str) -> Any:
    """The type of a setting in a table of the user's naming; None for any other."""
    section, member = name.partition(".")[0], name.rpartition(".")[2]
    fields = TABLES[section].model_fields if section in TABLES else {}
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
    for variable, text in environment.settings_variables():
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
        for member in TABLES[table.partition(".")[0]].model_fields
    ]


def _check_known(name: str, origin: str, known: list[str], tables: set[str]) -> None:
    section, *rest = name.split(".")
    if name in TABLES:
        raise SettingsError(f"{origin}: {name} holds tables: write [{name}.NAME].")
    if section in TABLES and rest and not re.fullmatch(PLAIN_NAME, rest[0]):
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
