"""Loads a file of functions into this process: exactly the bytes that were hashed."""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import linecache
import os.path
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from skipper.errors import DefinitionError
from skipper.function.decorators import Function, defined_in
from skipper.function.options import check_pool
from skipper.hookspecs import Project, Source
from skipper.instance import source as text
from skipper.instance.faults import describe
from skipper.instance.jobs import Job, Report, SourceInfo
from skipper.instance.plugin_settings import hand_over, unread
from skipper.instance.plugins import OnTurn, Plugins, no_turns
from skipper.spec import BrokenFile


def project_of(folder: Path, set_up: frozenset[str] = frozenset()) -> Project:
    """The project in ``folder``, as hooks get it."""
    return Project(
        folder=folder,
        functions_dir=folder / "functions",
        plugins_dir=folder / "plugins",
        set_up=set_up,
    )


def open_project(
    project: Project, *, without: Collection[str] = (), on_turn: OnTurn = no_turns
) -> Plugins:
    """Make the project's own modules importable and load its plugins, as :class:`Plugins` does."""
    sys.path.insert(0, str(project.folder))
    # Made here, because the folder has no __init__.py, and Python would rather import an installed
    # package of that name.
    functions = ModuleType("functions")
    functions.__path__ = [str(project.functions_dir)]
    sys.modules["functions"] = functions
    return Plugins(project.plugins_dir, without=without, on_turn=on_turn)


def survey(project: Project, plugins: Plugins, pools: Collection[str]) -> Report:
    """Which files define functions, and what can be known of them without importing them."""
    broken: list[BrokenFile] = []
    named = plugins.call_each("skipper_sources", _sources, project=project)
    found = [(source, plugin) for plugin, sources in named for source in sources]
    found.sort(key=lambda each: (each[0].origin != "functions", each[0].name))
    infos: dict[str, SourceInfo] = {}
    for source, plugin in found:
        if (other := infos.get(source.name)) is not None:
            broken.append(_twice(source, other, project))
            continue
        try:
            info = _look_at(source, plugins, pools)
            infos[source.name] = info.model_copy(update={"plugin": plugin})
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            broken.append(describe(error, source.file))
    warnings = tuple(unread(plugins, project.set_up))
    return Report(sources=tuple(infos.values()), broken=tuple(broken), warnings=warnings)


def _twice(source: Source, other: SourceInfo, project: Project) -> BrokenFile:
    mine, served = (os.path.relpath(each.file, project.folder) for each in (source, other))
    return BrokenFile(
        file=str(source.file),
        error=f"{mine} and {served} both define functions named {source.name}.…",
        hint=f"rename this one; {served} is served",
    )


def _look_at(source: Source, plugins: Plugins, pools: Collection[str]) -> SourceInfo:
    texts = text.read(source.file)
    trees = [ast.parse(content, str(path)) for path, content in texts.items()]
    imports = text.imports_of(trees)
    libraries = imports.union(*plugins.call("skipper_libraries", _modules, imports=imports))
    variables = plugins.call("skipper_environment", _variables, imports=imports)
    return SourceInfo(
        name=source.name,
        file=source.file,
        module=source.module,
        origin=source.origin,
        code=text.code_hash(texts),
        imports=_heavy(imports, source),
        libraries=_heavy(libraries, source),
        environment={name: value for named in variables for name, value in named.items()},
        pools=text.pools_of(trees, pools),
    )


def _sources(answer: Any) -> list[Source]:
    sources = list(answer or ())
    for source in sources:
        if not isinstance(source, Source) or not isinstance(source.file, Path):
            raise TypeError(f"it named {source!r:.200}; name skipper.Source records with a Path")
    return sources


def _modules(answer: Any) -> list[str]:
    names = list(answer or ())
    if isinstance(answer, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"it answered {answer!r:.200}; answer a list of modules, as ['polars']")
    return names


def _variables(answer: Any) -> dict[str, str]:
    variables = answer or {}
    if not isinstance(variables, Mapping) or not all(
        isinstance(text, str) for item in variables.items() for text in item
    ):
        raise TypeError(f"it answered {answer!r:.200}; answer a dict of texts, as {{'NAME': '1'}}")
    return dict(variables)


def _heavy(names: Iterable[str], source: Source) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if not _is_light(name, source)))


def _is_light(name: str, source: Source) -> bool:
    """Whether a template need not hold this: every instance has it, or it is the project's."""
    top = name.partition(".")[0]
    beside = source.file.parent
    own = (beside / f"{top}.py", beside / top, beside.parent / f"{top}.py", beside.parent / top)
    return name in sys.modules or any(path.exists() for path in own)


def load(
    source: SourceInfo, texts: Mapping[Path, bytes]
) -> tuple[list[Function[..., object]], str]:
    """Import a file from its text; its functions and the hash of that text.

    Raises whatever the file raises.
    """
    module = sys.modules.get(source.module) or _import(source, texts)
    functions = defined_in(module.__name__)
    if source.file.name == "__init__.py":
        functions += [
            f for f in vars(module).values() if isinstance(f, Function) and f not in functions
        ]
    functions = [f for f in functions if f.name.startswith(source.name + ".")]
    if not functions:
        raise DefinitionError(
            "it defines no function; write @skipper.data, @skipper.training or @skipper.inference "
            "before one, or begin the file's name with _ if it is a helper.",
            file=str(source.file),
        )
    return functions, text.code_hash(texts)


def _import(source: SourceInfo, texts: Mapping[Path, bytes]) -> ModuleType:
    # First of the finders, because the others would read the files, which may have changed since.
    sys.meta_path.insert(0, _Texts(source, texts))
    return importlib.import_module(source.module)


class _Texts:
    """Finds the modules of one source in text that was read before, whatever the disk holds now."""

    def __init__(self, source: SourceInfo, texts: Mapping[Path, bytes]) -> None:
        self._files = {_module_of(source, path): path for path in texts}
        self._texts = texts

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """What the import system asks of a finder."""
        del path, target
        if (file := self._files.get(name)) is None:
            return None
        return importlib.util.spec_from_file_location(
            name, file, loader=_Text(name, file, self._texts[file])
        )


class _Text(importlib.machinery.SourceFileLoader):
    """Loads one module from text, and shows that text in tracebacks."""

    def __init__(self, name: str, file: Path, content: bytes) -> None:
        super().__init__(name, str(file))
        self._content = content

    def path_stats(self, path: Any) -> Any:
        """Have neither read nor written what Python has compiled from the file at another time."""
        raise OSError(path)

    def get_data(self, path: Any) -> bytes:
        del path
        return self._content

    def exec_module(self, module: ModuleType) -> None:
        lines = importlib.util.decode_source(self._content).splitlines(keepends=True)
        linecache.cache[self.path] = (len(self._content), None, lines, self.path)  # for tracebacks
        super().exec_module(module)


def _module_of(source: SourceInfo, file: Path) -> str:
    """``functions.houses.rows`` for ``rows.py`` in the package ``houses``."""
    if file == source.file:
        return source.module
    parts = file.relative_to(source.file.parent).with_suffix("").parts
    return ".".join((source.module, *(part for part in parts if part != "__init__")))


def read(job: Job, plugins: Plugins) -> Report:
    """Load a file and report what each of its functions declares, or what is wrong with it."""
    assert job.source is not None
    try:
        hand_over(plugins, job)
        texts = text.read(job.source.file)
        functions, code = load(job.source, texts)
        specs = tuple(function.spec(code) for function in functions)
        for spec in specs:
            check_pool(spec, job.pools)
    except BaseException as error:  # noqa: BLE001 - a file may raise anything, SystemExit too
        return Report(broken=(describe(error, job.source.file),), code=job.source.code)
    return Report(specs=specs, texts=texts, code=code)
