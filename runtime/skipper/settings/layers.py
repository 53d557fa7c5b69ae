"""Where settings are written: ``skipper.toml``, ``SKIPPER_*`` variables, flags."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skipper.errors import SettingsError
from skipper.settings import environment, schema
from skipper.settings.pools import BUILT_IN
from skipper.settings.schema import Setting

FILE_NAME = "skipper.toml"


@dataclass(frozen=True, kw_only=True)
class WrittenTable:
    """One value, as it is written somewhere."""

    path: schema.SettingPath
    value: Any = field(repr=False)
    """It may be a secret."""
    origin: str
    """``skipper.toml:3``, ``$SKIPPER_GATEWAY_PORT`` or ``flag``."""

    @property
    def name(self) -> str:
        return ".".join(self.path)


def in_file(file: Path) -> list[WrittenTable]:
    """What is written in the project's file; nothing where there is none."""
    try:
        text = file.read_text("utf-8")
        data = tomllib.loads(text)
    except FileNotFoundError:
        return []
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not valid TOML: {error}.") from None
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}.") from None
    lines = text.splitlines()
    return [
        WrittenTable(
            path=path, value=value, origin=f"{file.name}:{_line_of(lines, '.'.join(path))}"
        )
        for path, value in _flatten(data, ())
    ]


def in_environment(
    written: Iterable[WrittenTable], sections: Collection[str] | None = None
) -> list[WrittenTable]:
    """What the variables set, of settings that stand by themselves and of tables ``written``.

    With ``sections`` the variables of all others are left alone, whatever they are.
    """
    paths = [each.path for each in written]
    known = known_paths(paths)
    prefixes = tuple(f"{_variable([section])}_" for section in sections or ())
    return [
        _of_variable(variable, text, known, paths)
        for variable, text in environment.settings_variables()
        if sections is None or variable.startswith(prefixes)
    ]


def from_flags(flags: Mapping[str, Any]) -> list[WrittenTable]:
    """What the command line sets, by dotted name; None sets nothing."""
    return [
        WrittenTable(path=tuple(name.split(".")), value=value, origin="flag")
        for name, value in flags.items()
        if value is not None
    ]


def known_paths(written: Iterable[schema.SettingPath]) -> list[schema.SettingPath]:
    """Every setting that can be named: in the tables that are ``written``, and beside them."""
    used = list(written)
    tables = {path[:2] for path in used if schema.is_table(path[:2])}
    tables |= {("pools", name) for name in BUILT_IN}
    declared = list(schema.paths(tables))
    return declared + [path for path in used if path not in declared and _is_setting(path)]


def nearest(name: str, known: Collection[str]) -> str:
    """What to write instead of ``name``, which is not known."""
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else "; `skipper config show` lists them all."


# --- the file ---------------------------------------------------------------------------------


def _flatten(
    table: Mapping[str, Any], prefix: schema.SettingPath
) -> Iterator[tuple[schema.SettingPath, Any]]:
    for key, value in table.items():
        path = (*prefix, key)
        if isinstance(value, dict) and (value or _is_section(path)) and not _is_setting(path):
            yield from _flatten(value, path)
        else:
            yield path, value


def _is_section(path: schema.SettingPath) -> bool:
    return schema.at(path) is not None and not schema.is_table(path)


def _is_setting(path: Sequence[str]) -> bool:
    return isinstance(schema.at(path), Setting)


def _line_of(lines: Sequence[str], name: str) -> int:
    """The line on which ``name`` is set: the key's own, or that of the inline table around it."""
    table = ""
    for number, line in enumerate(lines, 1):
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


# --- the environment --------------------------------------------------------------------------


def _of_variable(
    variable: str,
    text: str,
    known: Sequence[schema.SettingPath],
    written: Sequence[schema.SettingPath],
) -> WrittenTable:
    found = [path for path in known if _variable(path) == variable]
    found = found or sorted(set(_members_of_open_tables(variable, written)))
    if not found:
        raise SettingsError(
            f"Environment: no setting {variable}{nearest(variable, list(map(_variable, known)))}"
        )
    if len(found) > 1:
        meant = " or ".join(map(".".join, found))
        raise SettingsError(f"Environment: {variable} may mean {meant}: write it in {FILE_NAME}.")
    setting = schema.at(found[0])
    value = _parts(text, setting) if isinstance(setting, Setting) and setting.is_list else text
    return WrittenTable(path=found[0], value=value, origin=f"${variable}")


def _parts(text: str, setting: Setting) -> list[str]:
    """The items of a list. Secrets that a template left empty are items, to be refused as such."""
    return [part for part in text.split(",") if part or setting.is_secret]


def _members_of_open_tables(
    variable: str, written: Iterable[schema.SettingPath]
) -> Iterator[schema.SettingPath]:
    """What a variable names in tables whose members are of the user's naming, too."""
    for path in written:
        prefix = _variable(path[:2]) + "_"
        member = variable.removeprefix(prefix).lower()
        is_open = schema.is_table(path[:2]) and _is_setting((*path[:2], schema.ANY))
        if is_open and variable.startswith(prefix) and member:
            yield (*path[:2], member)


def _variable(path: Sequence[str]) -> str:
    return "SKIPPER_" + "_".join(path).upper().replace("-", "_").replace(".", "_")
