"""The project's own modules that a file imports, directly or not: its code is all of their texts.

They are found in syntax trees, without importing anything. What then runs is these very texts
(:mod:`skipper.instance.finder`), whatever the disk holds by that time.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

from skipper.hookspecs import Project
from skipper.instance import source as text
from skipper.instance.finder import INSTALLED, Finder
from skipper.instance.jobs import ModuleText
from skipper.settings.trust import check_runnable

_RUNTIME, _FUNCTIONS = "skipper", "functions"

Modules = dict[str, Path]
"""Files by the name that each is imported under."""


class ProjectModules:
    """Finds the modules of one project. Each file is read and parsed once."""

    def __init__(self, project: Project) -> None:
        self._project, self._folder = project, project.folder.resolve()
        self._texts: dict[Path, bytes] = {}
        self._trees: dict[Path, ast.Module] = {}
        self._specs: dict[str, ModuleSpec | None] = {}
        self.warnings: list[str] = []
        """What is odd about the files that were read, and stops nothing."""

    def of(self, module: str, file: Path) -> Modules:
        """What ``file``, imported as ``module``, consists of: itself, and all that it imports.

        A package is all that its folder holds. Raises OSError, and SyntaxError or ValueError where
        it cannot be parsed itself; of what it imports, importing it will tell.
        """
        own = modules_in(module, file)
        for path in own.values():
            self.tree(path)
        return self._reached_from(own)

    def makers(self, own: Modules) -> Modules:
        """What the files in ``functions/`` consist of that train the models which ``own`` load.

        A model may name classes of the files that trained it. They count as the code of whoever
        loads it, so that what answers never comes from a text that its code does not name.
        """
        loaded = {name for tree in self.trees(own) for name in text.models_in(tree).loaded}
        if not loaded:
            return {}
        return self._reached_from(
            {
                name: file
                for name, file in self._of_functions.items()
                if name not in own
                and (tree := self._tree(file)) is not None
                and loaded & text.models_in(tree).made
            }
        )

    @functools.cached_property
    def plugins(self) -> Modules:
        """The project's own plugins and what those import: they run in every instance."""
        files = plugin_files(self._project.plugins_dir)
        # What is no file is told where plugins are loaded, and breaks no file of functions.
        return self._reached_from({name: file for name, file in files.items() if file.is_file()})

    @functools.cached_property
    def _of_functions(self) -> Modules:
        return modules_in(_FUNCTIONS, self._project.functions_dir / "__init__.py")

    def read(self, modules: Modules) -> tuple[ModuleText, ...]:
        """The texts of these modules. Raises OSError."""
        return tuple(
            ModuleText(name=name, file=file, text=self._text(file))
            for name, file in modules.items()
        )

    def tree(self, file: Path) -> ast.Module:
        """The syntax tree of a file. Raises OSError, SyntaxError and ValueError."""
        if file not in self._trees:
            self._trees[file] = ast.parse(self._text(file), str(file))
        return self._trees[file]

    def trees(self, modules: Modules) -> list[ast.Module]:
        """Those of the files that can be parsed."""
        return [tree for file in modules.values() if (tree := self._tree(file)) is not None]

    def is_own(self, name: str) -> bool:
        """Whether a module, by its absolute name, is one of the project's."""
        return self._spec(name.partition(".")[0]) is not None

    def _reached_from(self, begun: Modules) -> Modules:
        found: Modules = {}
        waiting = list(begun.items())
        while waiting:
            name, file = waiting.pop()
            if name in found:
                continue
            found[name] = file
            if (tree := self._tree(file)) is None:
                continue
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            imported = text.imported_by(tree, package)
            for each in imported.names:
                waiting += self._chain(each)
            if imported.is_open:
                waiting += self._of_functions.items()
        return found

    def _chain(self, name: str) -> Iterator[tuple[str, Path]]:
        """The modules that ``import name`` runs, the outermost package first."""
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            inner = ".".join(parts[:length])
            if (spec := self._spec(inner)) is None:
                return
            # `functions` itself is made by the loader, whether or not there is a file for it.
            if spec.origin and spec.origin.endswith(".py") and inner != _FUNCTIONS:
                yield inner, Path(spec.origin)

    def _spec(self, name: str) -> ModuleSpec | None:
        if name not in self._specs:
            self._specs[name] = self._search(name)
        return self._specs[name]

    def _search(self, name: str) -> ModuleSpec | None:
        """Where a module of the project is; None for others, and where there is none."""
        outer = name.rpartition(".")[0]
        if name == _FUNCTIONS:
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(self._project.functions_dir)]
            return spec
        if name == _RUNTIME or name in sys.stdlib_module_names:
            return None
        places = None
        if outer:
            around = self._spec(outer)
            places = [*(around.submodule_search_locations or ())] if around is not None else []
        found = _find(name, places)
        return found if found is not None and self._is_here(found) else None

    def _is_here(self, spec: ModuleSpec) -> bool:
        places = [spec.origin] if spec.origin else [*(spec.submodule_search_locations or ())]
        return any(
            Path(place).resolve().is_relative_to(self._folder)
            and not INSTALLED & {*Path(place).parts}
            for place in places
        )

    def _text(self, file: Path) -> bytes:
        if file not in self._texts:
            if not INSTALLED & {*file.parts} and (told := check_runnable(file, self._folder)):
                self.warnings.append(told)
            self._texts[file] = file.read_bytes()
        return self._texts[file]

    def _tree(self, file: Path) -> ast.Module | None:
        try:
            return self.tree(file)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _find(name: str, places: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if isinstance(finder, Finder):
            continue
        try:
            spec = finder.find_spec(name, places)
        except (ImportError, ValueError, OSError):
            continue
        if spec is not None:
            return spec
    return None


def modules_in(module: str, file: Path) -> Modules:
    """The file under its name; of a package's ``__init__.py``, every module below its folder."""
    if file.name != "__init__.py":
        return {module: file}
    found = {}
    for path in sorted(file.parent.rglob("*.py")):
        parts = path.relative_to(file.parent).with_suffix("").parts
        found[".".join((module, *(part for part in parts if part != "__init__")))] = path
    return found


def plugin_files(folder: Path) -> Modules:
    """The project's own plugins: each ``*.py`` in ``plugins/`` whose name begins with no ``_``."""
    files = sorted(folder.glob("*.py")) if folder.is_dir() else []
    return {file.stem: file.resolve() for file in files if not file.name.startswith(("_", "."))}
