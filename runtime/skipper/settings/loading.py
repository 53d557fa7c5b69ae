"""Reads the settings: flags > ``SKIPPER_*`` > ``skipper.toml`` > defaults. Names what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from skipper.errors import SettingsError
from skipper.settings import layers, schema
from skipper.settings.layers import FILE_NAME, Written
from skipper.settings.masking import without_values
from skipper.settings.model import Settings, is_loopback
from skipper.settings.schema import Setting, SettingPath, leaves

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Origins = Mapping[str, str]
"""Where each value that is written somewhere came from, by dotted name."""


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
    file = layers.in_file(folder / FILE_NAME)
    written = [*file, *layers.in_environment(file), *layers.from_flags(flags or {})]
    _check_known(written, layers.known_paths(each.path for each in file))
    values: dict[str, Any] = {"project_dir": folder}
    for each in written:
        _put(values, each.path, each.value)
    origins = {each.name: each.origin for each in written}
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


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        values = values.setdefault(name, {})
    values[path[-1]] = value


# --- what is wrong ----------------------------------------------------------------------------


def _check_known(written: Iterable[Written], known: Collection[SettingPath]) -> None:
    for each in written:
        if len(each.path) == 1 and each.name in schema.TABLES:
            raise SettingsError(
                f"{each.origin}: {each.name} holds tables: write [{each.name}.NAME]."
            )
        if not isinstance(schema.at(each.path), Setting) and not schema.is_table(each.path):
            hint = layers.nearest(each.name, list(map(".".join, known)))
            raise SettingsError(f"{each.origin}: no setting {each.name!r}{hint}")


def _explain(error: ValidationError, origins: Origins) -> str:
    return "\n".join(_sentence(item, origins) for item in error.errors())


def _sentence(item: ErrorDetails, origins: Origins) -> str:
    *around, last = map(str, item["loc"])
    if item["type"] == "missing":
        table = ".".join(around)
        return f"{_origin_of(table, origins)}: {table} needs {last} = …"
    is_of_name = last == "[key]"  # of a table, and not what stands in it
    path = tuple(around) if is_of_name else _declared((*around, last))
    found = schema.at(path)
    shown, detail = "", item["msg"].removeprefix("Value error, ").rstrip(".")
    if is_of_name:
        pass  # it is shown, and nothing is to be added
    elif found is None or schema.holds_secrets(found):
        detail = without_values(detail, item["input"])
    else:
        shown = f" = {item['input']!r}"
    name = ".".join(path)
    return f"{_origin_of(name, origins)}: {name}{shown}: {detail}."


def _declared(path: SettingPath) -> SettingPath:
    """Of the place of a mistake, the setting or table around it: that of a list, of its item."""
    while len(path) > 1 and schema.at(path) is None:
        path = path[:-1]
    return path


def _origin_of(name: str, origins: Origins) -> str:
    """Where a setting is written, or first something in a table."""
    inside = (origin for key, origin in origins.items() if f"{key}.".startswith(f"{name}."))
    return origins.get(name) or next(inside, "settings")


def _check_exposure(settings: Settings) -> None:
    gateway = settings.gateway
    if settings.gateway_socket is not None:
        return  # it is open to this user, and a group that the settings name
    if not is_loopback(gateway.host) and not gateway.keys:
        raise SettingsError(
            f"gateway.host = {gateway.host!r} is reachable from other machines, and gateway.keys "
            "is empty. Set keys (for instance SKIPPER_GATEWAY_KEYS=$(openssl rand -hex 24)) or "
            "listen on 127.0.0.1."
        )


def _check_webhooks(settings: Settings, origins: Origins) -> None:
    for name, webhook in settings.webhooks.items():
        if not webhook.is_encrypted and not webhook.allow_private:
            setting = f"webhooks.{name}.url"
            raise SettingsError(
                f"{origins.get(setting, 'settings')}: {setting}: plain http is for private "
                "addresses: write https://, or set allow_private = true."
            )
