"""Loads a file of functions into this process: exactly the bytes that were hashed."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

from skipper.errors import DefinitionError
from skipper.function import Function, defined_in
from skipper.hookspecs import Project, Source
from skipper.instance import source as text
from skipper.instance.jobs import Job, Report, SourceInfo
from skipper.plugins import Plugins, describe
from skipper.spec import BrokenFile


def project_of(folder: Path) -> Project:
    """The project in ``folder``, as hooks are told of it."""
    return Project(
        folder=folder, functions_dir=folder / "functions", plugins_dir=folder / "plugins"
    )


def open_project(project: Project) -> Plugins:
    """Make the project's own modules importable and load its plugins."""
    sys.path.insert(0, str(project.folder))
    functions = ModuleType("functions")
    functions.__path__ = [str(project.functions_dir)]
    sys.modules["functions"] = functions
    return Plugins(project.plugins_dir)


def survey(project: Project, plugins: Plugins) -> Report:
    """Which files define functions, and what can be told of them without importing them."""
    found: list[Source] = []
    broken = list(plugins.broken)
    for sources in plugins.hook.skipper_sources(project=project):
        found += sources
    infos: dict[str, SourceInfo] = {}
    for source in sorted(found, key=lambda source: (source.origin != "functions", source.name)):
        if (other := infos.get(source.name)) is not None:
            broken.append(_twice(source, other))
            continue
        try:
            infos[source.name] = _look_at(source, plugins)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            broken.append(describe(error, source.file))
    return Report(sources=tuple(infos.values()), broken=tuple(broken), plugins=tuple(plugins.names))


def _twice(source: Source, other: SourceInfo) -> BrokenFile:
    return BrokenFile(
        file=str(source.file),
        error=f"{source.origin} and {other.origin} both define functions named {source.name}.…",
        hint=f"rename this one; {other.file} is served",
    )


def _look_at(source: Source, plugins: Plugins) -> SourceInfo:
    texts = text.read(source.file)
    trees = [ast.parse(content, str(path)) for path, content in texts.items()]
    imports = text.imports_of(trees)
    wanted: Iterable[Iterable[str]] = plugins.hook.skipper_libraries(imports=imports)
    libraries = imports.union(*wanted)
    variables: Iterable[Mapping[str, str]] = plugins.hook.skipper_environment(imports=imports)
    return SourceInfo(
        name=source.name,
        file=source.file,
        module=source.module,
        origin=source.origin,
        code=text.code_hash(texts),
        libraries=tuple(sorted(name for name in libraries if not _is_light(name, source))),
        environment={name: value for named in variables for name, value in named.items()},
        pools=text.pools_of(trees),
    )


def _is_light(name: str, source: Source) -> bool:
    """Whether a template need not hold this: every instance has it, or it is the project's."""
    top = name.partition(".")[0]
    beside = source.file.parent
    own = (beside / f"{top}.py", beside / top, beside.parent / f"{top}.py", beside.parent / top)
    return name in sys.modules or any(path.exists() for path in own)


def load(source: SourceInfo) -> tuple[list[Function[..., object]], str]:
    """Import the file; its functions and the hash of what was read.

    Raises whatever the file raises.
    """
    texts = text.read(source.file)
    module = sys.modules.get(source.module) or _execute(source, texts[source.file])
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


def _execute(source: SourceInfo, content: bytes) -> ModuleType:
    parent, _, _ = source.module.rpartition(".")
    if parent and parent not in sys.modules:
        importlib.import_module(parent)
    module = ModuleType(source.module)
    module.__file__ = str(source.file)
    module.__package__ = parent
    if source.file.name == "__init__.py":
        module.__path__ = [str(source.file.parent)]
        module.__package__ = source.module
    sys.modules[source.module] = module
    exec(compile(content, str(source.file), "exec", dont_inherit=True), vars(module))  # noqa: S102 - this is the point
    return module


def read(job: Job) -> Report:
    """Load a file and say what each of its functions declares, or what is wrong with it."""
    assert job.source is not None
    try:
        functions, code = load(job.source)
        specs = tuple(function.spec(code) for function in functions)
    except BaseException as error:  # noqa: BLE001 - a file may raise anything, SystemExit too
        return Report(broken=(describe(error, job.source.file),), code=job.source.code)
    return Report(specs=specs, code=code)
