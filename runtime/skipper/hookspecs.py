"""Every extension point of Skipper, and nothing else.

A plugin is a module (or object) with functions of these names, marked ``@skipper.hook``. Plugins
are loaded in instances only: nothing they do can reach the processes that keep the tree running.
Where hooks say *first*, the first plugin that returns something other than None wins; a project's
``plugins/`` come before installed ones, and those before the built-in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy

from skipper.values.types import ValueType

GROUP = "skipper"
"""Name of the plugin project, and of the entry-point group of installed plugins."""

hookspec = pluggy.HookspecMarker(GROUP)
hook = pluggy.HookimplMarker(GROUP)
"""Marks a function of a plugin as its answer to the hook of the same name: ``@skipper.hook``."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """The project that is being read."""

    folder: Path
    functions_dir: Path
    plugins_dir: Path
    set_up: frozenset[str] = frozenset()
    """Names of plugins that ``skipper.toml`` has a table of settings for."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file (or package) of functions. ``name`` is the first part of its functions' names."""

    name: str
    file: Path
    """The file to load; of a package its ``__init__.py``."""
    module: str
    """The name to import it under."""
    origin: str
    """Which plugin named it, for messages."""


@hookspec
def skipper_sources(project: Project) -> Iterable[Source]:
    """Name files that define functions. Runs whenever the project is read; must not import them."""


@hookspec
def skipper_libraries(imports: frozenset[str]) -> Iterable[str]:
    """Name modules that the template of a file with these imports should hold already imported.

    ``imports`` are the file's own top-level imports, dotted. Runs whenever a file is read; must not
    import the libraries itself.
    """


@hookspec
def skipper_environment(imports: frozenset[str]) -> Mapping[str, str]:
    """Name environment variables that must be set before these imports happen.

    They hold in the file's template and in its instances. Runs whenever a file is read.
    """


@hookspec
def skipper_instance_started(threads: int) -> None:
    """Prepare libraries in a new instance, which may have been forked from a template.

    Runs in every instance, before any function file is read or loaded. ``threads`` is the
    instance's share of the cores; random states of a library must be renewed here, since every fork
    starts from the template's.
    """


@hookspec
def skipper_threads_changed(threads: int) -> int | None:
    """Have a library compute on ``threads`` threads from now on: the instance's share has changed.

    Runs before a task is called, and between two steps of a plain function that runs; must be
    quick, and print nothing. Return the number that it goes on to compute on where that cannot be
    changed any more; else None. BLAS, OpenMP, PyTorch and joblib follow without a plugin.
    """


@hookspec
def skipper_settings(source: str, settings: Mapping[str, Any]) -> None:
    """Take this plugin's own table of ``skipper.toml``, ``[plugins.NAME]``, as JSON data.

    ``source`` is one of those that this plugin named. Runs in each instance that reads or serves
    that source, before its file is loaded, and in no other: no other instance is given what stands
    in the table. Does not run where there is no table. Raise a ValueError, such as pydantic's, for
    what is wrong: it is shown with the table's name and without the table's values.
    """


@hookspec(firstresult=True)
def skipper_save_model(value: Any, folder: Path) -> str | None:
    """Write ``value`` to files in the empty ``folder`` and return the format's name.

    None if the value is not yours. First. Runs in the instance that trained the model.
    """


@hookspec(firstresult=True)
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the word for it
    """Return the model that :func:`skipper_save_model` wrote as ``format``, ready to serve.

    None if the format is not yours. First. Runs in each instance that serves the model; must not
    execute code from the files. The folder is read-only and the machine's instances share it: what
    is mapped of it is in memory once. It stays for as long as the instance holds the model.
    """


@hookspec(firstresult=True)
def skipper_model_state(format: str, model: Any) -> bytes | None:  # noqa: A002 - the word for it
    """Return a digest of all that a run could change about ``model``, which your plugin has loaded.

    A task is given a model as it was stored: where the digest is another one than before the task
    before it, the model is loaded anew, and for each task where no plugin makes one. None if the
    format is not yours, or you cannot tell. First. Quicker than loading, or not worth it.
    """


@hookspec(firstresult=True)
def skipper_value_type(hint: Any, marks: tuple[Any, ...]) -> ValueType | None:
    """Return how values of ``hint`` cross between callers and functions.

    ``hint`` is a class that stands in a signature, ``marks`` what an ``Annotated`` has beside it.
    None if the type is not yours, which must be cheap to tell: import its library only where it has
    been imported, because nobody else's hint is a class of it. First. Runs in every instance that
    reads or serves a file.
    """
