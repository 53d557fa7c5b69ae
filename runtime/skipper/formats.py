"""What plugins share that keep models: a format's libraries, and what a model names of the project.

Works in instances only, as plugins do.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from skipper.errors import FormatError

_HASHES = "hashes.json"


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way in which a plugin keeps models: its name, and the libraries that it needs.

    ``libraries`` are their distributions by the modules that they are imported as; ``extra`` is the
    one of skipper-runtime that installs them. ``is_fragile`` is for a library that ends the process
    over a damaged file: each file's hash is kept, and looked at before the library sees the file.
    """

    name: str
    libraries: Mapping[str, str]
    extra: str
    is_fragile: bool = False

    @contextlib.contextmanager
    def saving(self, folder: Path) -> Iterator[None]:
        """Within it a model is written to ``folder``.

        Raises FormatError where a library is not installed, before anything is written.
        """
        self._check_installed()
        yield
        if self.is_fragile:
            (folder / _HASHES).write_text(json.dumps(_hashes(folder)), encoding="utf-8")

    @contextlib.contextmanager
    def loading(self, folder: Path) -> Iterator[None]:
        """Within it a model is read from ``folder``.

        Raises FormatError where a library is not installed, and with the reason for whatever goes
        wrong meanwhile.
        """
        self._check_installed()
        try:
            if self.is_fragile and json.loads((folder / _HASHES).read_bytes()) != _hashes(folder):
                raise ValueError("a file is not as it was saved")
            yield
        except FormatError:
            raise
        except Exception as error:
            reason = str(error).partition("\n")[0] or "no reason given"
            raise FormatError(
                f"the {self.name} model cannot be loaded: {type(error).__name__}: {reason:.500}"
            ) from error

    def _check_installed(self) -> None:
        for module, distribution in self.libraries.items():
            if _spec(module) is None:
                raise FormatError(
                    f"the format {self.name!r} needs {distribution}, which is not installed: "
                    f"pip install 'skipper-runtime[{self.extra}]'"
                )


def _spec(module: str) -> object | None:
    try:
        return importlib.util.find_spec(module)
    except ValueError:  # it is blocked
        return None


def _hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in ``folder``, but that which has them."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != _HASHES:
            with path.open("rb") as stream:
                found[path.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


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
