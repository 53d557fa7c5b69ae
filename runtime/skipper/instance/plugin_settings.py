"""Gives a plugin its table of settings, and reports what is wrong with it without its values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from skipper.errors import SettingsError
from skipper.instance.faults import describe
from skipper.instance.jobs import Job
from skipper.instance.plugins import BUILT_IN, Plugins
from skipper.settings.masking import without_values
from skipper.settings.plugins import PluginTable

HOOK = "skipper_settings"


def hand_over(plugins: Plugins, job: Job) -> None:
    """Have the plugin that named the job's source take its table, if the project has one.

    Raises :class:`SettingsError`, in which no value of the table occurs, where it does not.
    """
    table, source = job.settings, job.source
    if table is None or source is None:
        return
    if source.plugin not in plugins.names:
        raise SettingsError(f"{table.title}: the plugin {source.plugin!r} is not loaded")
    try:
        plugins.call_one(source.plugin, HOOK, source=source.name, settings=table.values)
    except ValidationError as error:
        details = (_detail(table, item["loc"], item["msg"]) for item in error.errors())
        raise SettingsError("; ".join(details)) from None
    except ValueError as error:
        raise SettingsError(_detail(table, (), str(error))) from None
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
        file = plugins.file_of(source.plugin) or Path(source.plugin)
        found = describe(error, file)
        detail = _detail(table, (), found.error)
        raise SettingsError(f"{detail} ({file}:{found.line or 1})") from None


def unread(plugins: Plugins, set_up: Iterable[str]) -> Iterator[str]:
    """Warnings about tables that no plugin takes; none about a plugin that could not be loaded."""
    takers, known = plugins.with_hook(HOOK), sorted(plugins.found - {BUILT_IN})
    for name in sorted(set_up):
        if name not in plugins.found:
            close = difflib.get_close_matches(name, known, 1, 0.4)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}."
            yield f"skipper.toml has settings of a plugin {name!r}, which is not there; {hint}"
        elif name in plugins.names and name not in takers:
            yield f"skipper.toml has settings of the plugin {name!r}, which takes none."


def _detail(table: PluginTable, place: tuple[int | str, ...], message: str) -> str:
    name = ".".join(map(str, (table.title, *place)))
    return f"{name}: {without_values(message.removeprefix('Value error, '), table.values)}"
