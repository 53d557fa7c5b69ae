"""Reads the settings: flags > ``SKIPPER_*`` > ``skipper.toml`` > defaults. Names what is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from skipper.errors import SettingsError
from skipper.settings import layers, schema
from skipper.settings.layers import FILE_NAME, WrittenTable
from skipper.settings.masking import without_values
from skipper.settings.model import Settings, is_loopback
from skipper.settings.schema import Setting, SettingPath, leaves
from skipper.settings.trust import check_found

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
    :class:`SettingsError` with one sentence per wrong key, or where the project was not named and
    is another user's.
    """
    folder = _folder(project_dir)
    file = layers.in_file(folder / FILE_NAME)
    written = [*file, *layers.in_environment(file), *layers.from_flags(flags or {})]
    _check_known(written, layers.known_paths(each.path for each in file))
    settings, origins = _validated(folder, written)
    _check_exposure(settings)
    _check_webhooks(settings, origins)
    return settings, {name: origins.get(name, "default") for name, _ in leaves(settings)}


def load_sections(project_dir: Path | None, *sections: str) -> Settings:
    """Some sections of the settings; the others are as by default, and none of them is looked at.

    For verbs that start nothing: what they do not use may be wrong, or come from variables that
    only the running tree was started with. Without sections not even the file is read, so that
    nothing in it keeps anybody from stopping the tree.
    """
    folder = _folder(project_dir)
    if not sections:
        return Settings(project_dir=folder)
    file = [each for each in layers.in_file(folder / FILE_NAME) if each.path[0] in sections]
    written = [*file, *layers.in_environment(file, sections)]
    _check_known(written, layers.known_paths(each.path for each in file))
    return _validated(folder, written)[0]


def _folder(project_dir: Path | None) -> Path:
    folder = (project_dir or find_project()).resolve()
    try:
        is_folder = folder.is_dir()
    except PermissionError:
        raise SettingsError(f"{folder} cannot be looked into: you may not.") from None
    if not is_folder:
        raise SettingsError(f"{folder} is not a folder; name the project's with --project DIR.")
    if project_dir is None:
        check_found(folder)
    return folder


def _validated(folder: Path, written: Sequence[WrittenTable]) -> tuple[Settings, Origins]:
    values: dict[str, Any] = {"project_dir": folder}
    for each in written:
        _put(values, each.path, each.value)
    origins = {each.name: each.origin for each in written}
    try:
        return Settings.model_validate(values), origins
    except ValidationError as error:
        raise SettingsError(_explain(error, origins)) from None


def find_project() -> Path:
    """The nearest folder upwards from here that holds ``skipper.toml``, else here."""
    try:
        here = Path.cwd()
    except OSError as error:
        raise SettingsError(
            f"The folder you stand in cannot be found ({error.strerror}); go to another, or name "
            "the project's with --project DIR."
        ) from None
    for folder in (here, *here.parents):
        with contextlib.suppress(PermissionError):  # where we may not look, nothing is ours
            if (folder / FILE_NAME).is_file():
                return folder
    return here


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        values = values.setdefault(name, {})
    values[path[-1]] = value


# --- what is wrong ----------------------------------------------------------------------------


def _check_known(written: Iterable[WrittenTable], known: Collection[SettingPath]) -> None:
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
    if bool(gateway.tls_cert) != bool(gateway.tls_key):
        one, other = ("tls_cert", "tls_key") if gateway.tls_cert else ("tls_key", "tls_cert")
        raise SettingsError(f"gateway.{one} is set and gateway.{other} is not; set both.")
    if settings.gateway_socket is not None and gateway.tls_cert:
        raise SettingsError(
            "gateway.socket and gateway.tls_cert: nothing on a unix socket is encrypted; leave one."
        )
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
