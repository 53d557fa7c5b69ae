"""Has Python import the project's modules from texts that were read before, not from the disk."""

from __future__ import annotations

import importlib.util
import linecache
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from skipper.hookspecs import Project
from skipper.instance.jobs import ModuleText
from skipper.settings.trust import check_runnable

INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders whose modules are no project's, though a project may hold its environment."""


class Finder:
    """The first of an instance's finders. A module of the project that has no text is refused.

    Because what its functions answer would follow from a text that their code does not name.
    """

    def __init__(self, project: Project, texts: Iterable[ModuleText]) -> None:
        self._folders = (str(project.folder), str(project.functions_dir))
        self._resolved = tuple(Path(folder).resolve() for folder in self._folders)
        self._on_disk = on_disk(project.folder)
        self._texts = {each.name: each for each in texts}
        self._own = {name.partition(".")[0] for name in self._texts} | {"functions"}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        """What the import system asks of a finder. Raises ImportError."""
        del target
        if (found := self._texts.get(name)) is not None:
            return _spec_of(found)
        places = self._folders if path is None else path
        file = _file_in(places, name.rpartition(".")[2])
        if file is not None and self._is_here(file) and self._is_own(name):
            raise ImportError(
                f"{name} is a module of this project that no file of this function imports by "
                f"name: write `import {name}` in one, so that its text counts as their code",
                name=name,
                path=str(file),
            )
        return None

    def owns(self, name: str) -> bool:
        """Whether a module of this name is, or would be, one of the project's."""
        top = name.partition(".")[0]
        if name in self._texts or top in self._own:
            return True
        file = _file_in(self._folders, top)
        return file is not None and self._is_here(file)

    def _is_here(self, file: Path) -> bool:
        """Whether it is the project's: an installed plugin's modules are imported as any others."""
        found = file.resolve()
        return not INSTALLED & {*found.parts} and any(map(found.is_relative_to, self._resolved))

    def _is_own(self, name: str) -> bool:
        top, dot, _ = name.partition(".")
        return not dot or top in self._own or _file_in(self._folders, top) is not None

    def spec_of_file(self, name: str, file: Path) -> ModuleSpec | None:
        """How to load ``file`` under ``name``: from its text, if it has one."""
        found = self._texts.get(name)
        if found is not None and found.file == file:
            return _spec_of(found)
        return self._on_disk(name, file)


def on_disk(project: Path) -> Callable[[str, Path], ModuleSpec | None]:
    """How to load a file as it is on the disk. Raises PermissionError as :mod:`settings.trust`."""

    def spec_of_file(name: str, file: Path) -> ModuleSpec | None:
        check_runnable(file, project)
        return importlib.util.spec_from_file_location(name, file)

    return spec_of_file


def _spec_of(module: ModuleText) -> ModuleSpec | None:
    loader = _TextLoader(module)
    return importlib.util.spec_from_file_location(module.name, module.file, loader=loader)


def own_modules() -> list[ModuleType]:
    """The modules that were imported from texts."""
    specs = ((module, getattr(module, "__spec__", None)) for module in [*sys.modules.values()])
    return [m for m, spec in specs if spec is not None and isinstance(spec.loader, _TextLoader)]


def _file_in(folders: Iterable[str], stem: str) -> Path | None:
    for folder in map(Path, folders):
        for file in (folder / f"{stem}.py", folder / stem / "__init__.py"):
            if file.is_file():
                return file
    return None


class _TextLoader(SourceFileLoader):
    """Loads one module from its text, and shows that text in tracebacks."""

    def __init__(self, module: ModuleText) -> None:
        super().__init__(module.name, str(module.file))
        self._text = module.text

    def path_stats(self, path: Any) -> Any:
        """Have neither read nor written what Python has compiled from the file at another time."""
        raise OSError(path)

    def get_data(self, path: Any) -> bytes:
        return self._text if path == self.path else super().get_data(path)

    def exec_module(self, module: ModuleType) -> None:
        lines = importlib.util.decode_source(self._text).splitlines(keepends=True)
        linecache.cache[self.path] = (len(self._text), None, lines, self.path)  # for tracebacks
        super().exec_module(module)
