"""Loads plugins: a project's ``plugins/*.py``, installed entry points, the built-in one.

Used in instances only. A plugin that cannot be loaded is reported and left out; the others work.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from skipper import hookspecs
from skipper.instance import discovery
from skipper.instance.faults import describe
from skipper.instance.finder import on_disk
from skipper.instance.modules import plugin_files
from skipper.spec import BrokenFile

T = TypeVar("T")
BUILT_IN = "functions"
"""The name of the plugin that finds the files in ``functions/``."""

OnTurn = Callable[[str, Path | None, str], None]
"""Called with a plugin's name, its file and the hook that runs next; no hook while it is loaded."""


FindFile = Callable[[str, Path], ModuleSpec | None]
"""How to load a file under a name."""


def no_turns(name: str, file: Path | None, hook: str) -> None:
    """An :data:`OnTurn` that does nothing."""


class Plugins:
    """The plugins of one project, loaded in this process.

    ``find`` tells how to load a file of the project, by default as it is on the disk; those named
    in ``without`` are not loaded. ``on_turn`` runs before each plugin's code does, and once with an
    empty name when all are loaded, and after every :meth:`call`. ``broken`` has those that failed.
    """

    def __init__(
        self,
        plugins_dir: Path,
        *,
        find: FindFile | None = None,
        without: Collection[str] = (),
        on_turn: OnTurn = no_turns,
    ) -> None:
        self._manager = pluggy.PluginManager(hookspecs.GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._files: set[Path] = set()
        self._on_turn = on_turn
        self.broken: list[BrokenFile] = []
        self.found: set[str] = {BUILT_IN}
        """Names of all plugins that there are, those that could not be loaded included."""
        self._manager.register(discovery, BUILT_IN)
        for name, file, load in (
            *_installed(),
            *_in_project(plugins_dir, find or on_disk(plugins_dir.parent)),
        ):
            self.found.add(name)
            if name not in without:
                on_turn(name, file, "")
                self._add(name, file, load)
        on_turn("", None, "")

    @property
    def hook(self) -> Any:
        """The hooks of :mod:`skipper.hookspecs`, to be called with keyword arguments."""
        return self._manager.hook

    def call(self, hook: str, check: Callable[[Any], T], **arguments: Any) -> list[T]:
        """What every plugin returns from a hook, through ``check``; the last loaded comes first.

        A plugin that raises, or whose value ``check`` refuses with a TypeError, is added to
        ``broken`` and takes part in nothing from then on.
        """
        return [value for _, value in self.call_each(hook, check, **arguments)]

    def call_each(
        self, hook: str, check: Callable[[Any], T], **arguments: Any
    ) -> list[tuple[str, T]]:
        """:meth:`call`, with the name of the plugin before each value."""
        values = []
        # Not by pluggy's own call, because one plugin that raises would end the others' turns.
        for impl in reversed(getattr(self.hook, hook).get_hookimpls()):
            file = _file_of(impl.plugin)
            self._on_turn(impl.plugin_name, file, hook)
            try:
                value = impl.function(*(arguments[name] for name in impl.argnames))
                values.append((impl.plugin_name, check(value)))
            except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
                self._manager.unregister(impl.plugin)
                self.broken.append(_failed(error, hook, file or Path(impl.plugin_name), impl))
        self._on_turn("", None, "")
        return values

    def call_one(self, plugin: str, hook: str, **arguments: Any) -> Any:
        """What one plugin returns from a hook; None where it has none. Raises what that does."""
        for impl in getattr(self.hook, hook).get_hookimpls():
            if impl.plugin_name == plugin:
                self._on_turn(plugin, _file_of(impl.plugin), hook)
                value = impl.function(*(arguments[name] for name in impl.argnames))
                self._on_turn("", None, "")
                return value
        return None

    def with_hook(self, hook: str) -> list[str]:
        """Names of the plugins that are loaded and have a hook."""
        return [impl.plugin_name for impl in getattr(self.hook, hook).get_hookimpls()]

    def file_of(self, plugin: str) -> Path | None:
        """The file of a plugin that is loaded."""
        return _file_of(self._manager.get_plugin(plugin))

    @property
    def names(self) -> list[str]:
        return sorted(
            name for name, plugin in self._manager.list_name_plugin() if plugin is not None
        )

    def _add(self, name: str, file: Path | None, load: Callable[[], Any]) -> None:
        if file is not None and file in self._files:
            return
        try:
            if self._manager.has_plugin(name):
                raise ImportError(f"an installed plugin is named {name!r}; rename this one's file")
            plugin = load()
            found = _file_of(plugin)
            if found is not None and found in self._files:
                return
            self._check_hooks(plugin)
            self._manager.register(plugin, name)
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            self.broken.append(describe(error, file or Path(name)))
            return
        self._files.update(path for path in (found, file) if path is not None)

    def _check_hooks(self, plugin: Any) -> None:
        known = {name for name in vars(hookspecs) if name.startswith("skipper_")}
        for name in dir(plugin):
            if not name.startswith("skipper_"):
                continue
            options = getattr(getattr(plugin, name), hookspecs.GROUP + "_impl", None)
            if options is None:
                continue
            if name not in known:
                close = difflib.get_close_matches(name, known, 1, 0.3)
                raise TypeError(
                    f"there is no hook {name!r}; did you mean {(close or sorted(known))[0]!r}?"
                )
            if options["wrapper"] or options["hookwrapper"]:
                raise TypeError(f"{name} wraps other plugins' hooks, which nobody's may")


def _file_of(plugin: object) -> Path | None:
    if isinstance(plugin, ModuleType) and plugin.__file__:
        return Path(plugin.__file__).resolve()
    return None


def _failed(error: BaseException, hook: str, file: Path, impl: Any) -> BrokenFile:
    """What is wrong with a hook that raised, and where; of a wrong answer, the hook's first line.

    ``impl`` is pluggy's record of it.
    """
    found = describe(error, file)
    code = getattr(impl.function, "__code__", None)
    line = found.line or (code.co_firstlineno if code else None)
    return found.model_copy(update={"line": line, "error": f"{hook}: {found.error}"})


def _installed() -> Iterator[tuple[str, Path | None, Callable[[], Any]]]:
    for point in importlib.metadata.entry_points(group=hookspecs.GROUP):
        yield point.name, None, point.load


def _in_project(
    folder: Path, find: FindFile
) -> Iterator[tuple[str, Path | None, Callable[[], Any]]]:
    for name, file in plugin_files(folder).items():
        yield name, file, functools.partial(_import_file, name, file, find)


def _import_file(name: str, file: Path, find: FindFile) -> ModuleType:
    if name in sys.modules:
        raise ImportError(f"a module named {name!r} is loaded already; rename this plugin's file")
    spec = find(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half of a module must not be what the next import of it gets
        raise
    return module
