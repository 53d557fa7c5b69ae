"""What plugins share that keep models: a format's libraries, and what a model names of the project.

Works in instances only, as plugins do.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from skipper.errors import FormatError

_VERSIONS = "libraries.json"


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way in which a plugin keeps models: its name, and the libraries that it needs.

    ``libraries`` are their distributions by the modules that they are imported as; ``extra`` is the
    one of skipper-runtime that installs them.
    """

    name: str
    libraries: Mapping[str, str]
    extra: str

    @contextlib.contextmanager
    def saving(self, folder: Path) -> Iterator[None]:
        """Within it a model is written to ``folder``, beside which the libraries' versions lie.

        Raises FormatError where one is not installed, before anything is written.
        """
        self._check_installed("saving a model as")
        yield
        (folder / _VERSIONS).write_text(json.dumps(self._versions()), encoding="utf-8")

    @contextlib.contextmanager
    def loading(self, folder: Path) -> Iterator[None]:
        """Within it a model is read from ``folder``.

        Raises FormatError where a library is not installed or the folder holds a link, and for
        whatever goes wrong meanwhile: the message has the reason, and versions that differ.
        """
        self._check_installed("the format")
        for path in folder.rglob("*"):
            if path.is_symlink():
                raise FormatError(f"the saved model holds a link, {path.name}, and is not loaded")
        try:
            yield
        except FormatError:
            raise
        except Exception as error:
            raise FormatError(self._why(error, folder)) from error

    def _check_installed(self, what: str) -> None:
        for module, distribution in self.libraries.items():
            if importlib.util.find_spec(module) is None:
                raise FormatError(
                    f"{what} {self.name!r} needs {distribution}; "
                    f"install it: pip install 'skipper-runtime[{self.extra}]'"
                )

    def _versions(self) -> dict[str, str]:
        found = {}
        for distribution in self.libraries.values():
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[distribution] = importlib.metadata.version(distribution)
        return found

    def _why(self, error: Exception, folder: Path) -> str:
        reason = str(error).partition("\n")[0] or "no reason given"
        told = f"the {self.name} model cannot be loaded: {type(error).__name__}: {reason:.500}"
        others = [
            f"{name} {then} and not {now}"
            for name, now in self._versions().items()
            if (then := self._saved_with(folder).get(name, now)) != now
        ]
        return f"{told} (it was saved with {', '.join(others)})" if others else told

    @staticmethod
    def _saved_with(folder: Path) -> dict[str, str]:
        try:
            found = json.loads((folder / _VERSIONS).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


_owned: list[Callable[[str], bool]] = []
"""Whether a module is one of the project's, by its name; empty in a process without a project."""


def names_are_owned(owns: Callable[[str], bool]) -> None:
    """From now on, a name is the project's where ``owns`` says so."""
    _owned[:] = [owns]


def from_project(module: str, name: str) -> Any:
    """The class or function ``name`` that ``module``, one of the project's own, defines.

    For what a saved model names beside the library's own: it is imported as function files import
    it, from the texts that this function's code consists of, and never from the model's files. Only
    what the module itself defines at its top level is found, not what it has imported.

    Raises FormatError where the module is not the project's, where the name is gone, and where it
    is of anything else; and whatever the module raises.
    """
    full = f"{module}.{name}"
    if not any(owns(module) for owns in _owned):
        raise FormatError(f"{full}, which the model names, is of no file of this project")
    try:
        found = getattr(importlib.import_module(module), name)
    except AttributeError:
        raise FormatError(_gone(full)) from None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise FormatError(_gone(full)) from None
    except ImportError as error:
        raise FormatError(f"{full}, which the model names, cannot be imported: {error}") from error
    is_defined_there = isinstance(found, type | FunctionType) and (
        (found.__module__, found.__qualname__) == (module, name)
    )
    if not is_defined_there:
        raise FormatError(
            f"{full}, which the model names, is no class or plain function that stands at the top "
            f"level of {module}"
        )
    return found


def _gone(full: str) -> str:
    return (
        f"{full}, which the model names, is gone from the project; put it back, "
        "or train the model again"
    )
