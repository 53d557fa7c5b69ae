"""Finds files of functions, and loads one into this process: exactly the texts that were hashed."""

from __future__ import annotations

import importlib
import os.path
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from skipper.errors import DefinitionError
from skipper.formats import names_are_owned
from skipper.function.decorators import Function, defined_in
from skipper.function.mistakes import Mistake, keeping
from skipper.function.options import check_pool
from skipper.hookspecs import Project, Source
from skipper.instance import discovery
from skipper.instance import source as text
from skipper.instance.faults import describe
from skipper.instance.finder import Finder
from skipper.instance.jobs import Job, ModuleText, Report, SourceInfo
from skipper.instance.modules import ProjectModules, modules_in
from skipper.instance.plugin_settings import hand_over, unread
from skipper.instance.plugins import Plugins
from skipper.spec import BrokenFile, FunctionSpec


def project_of(folder: Path, set_up: frozenset[str] = frozenset()) -> Project:
    """The project in ``folder``, as hooks get it."""
    return Project(
        folder=folder,
        functions_dir=folder / "functions",
        plugins_dir=folder / "plugins",
        set_up=set_up,
    )


def make_importable(project: Project) -> None:
    """Let this process import the project's modules: from its folder, and from ``functions/``."""
    sys.path.insert(0, str(project.folder))
    # The last, because a function file's name may be that of an installed package.
    sys.path.append(str(project.functions_dir))
    # Made here, because the folder has no __init__.py, and Python would rather import an installed
    # package of that name.
    functions = ModuleType("functions")
    functions.__path__ = [str(project.functions_dir)]
    sys.modules["functions"] = functions


def import_from(project: Project, texts: Iterable[ModuleText]) -> Finder:
    """Have the project's modules imported from these texts alone, from now on."""
    finder = Finder(project, texts)
    sys.meta_path.insert(0, finder)
    names_are_owned(finder.owns)
    return finder


def texts_of(project: Project, source: SourceInfo) -> tuple[ModuleText, ...]:
    """What a file of functions consists of, as it is now. Raises as :meth:`ProjectModules.of`."""
    modules = ProjectModules(project)
    own = modules.of(source.module, source.file)
    return modules.read(modules.plugins | own | modules.makers(own))


def is_current(texts: Iterable[ModuleText]) -> bool:
    """Whether the disk still holds these texts."""
    try:
        return all(each.file.read_bytes() == each.text for each in texts)
    except OSError:
        return False


def survey(project: Project, plugins: Plugins, pools: Collection[str]) -> Report:
    """Which files define functions, and what can be known of them without importing them."""
    broken: list[BrokenFile] = []
    named = plugins.call_each("skipper_sources", _sources, project=project)
    found = [(source, plugin) for plugin, sources in named for source in sources]
    found.sort(key=lambda each: (each[0].origin != "functions", each[0].name))
    modules, infos = ProjectModules(project), dict[str, SourceInfo]()
    for source, plugin in found:
        if (other := infos.get(source.name)) is not None:
            broken.append(_twice(source, other, project))
            continue
        try:
            info = _look_at(source, modules, plugins, pools)
            infos[source.name] = info.model_copy(update={"plugin": plugin})
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            broken.append(describe(error, source.file))
    broken += discovery.left_out(project)
    warnings = (*unread(plugins, project.set_up), *modules.warnings)
    return Report(sources=tuple(infos.values()), broken=tuple(broken), warnings=warnings)


def _twice(source: Source, other: SourceInfo, project: Project) -> BrokenFile:
    mine, served = (os.path.relpath(each.file, project.folder) for each in (source, other))
    return BrokenFile(
        file=str(source.file),
        error=f"{mine} and {served} both define functions named {source.name}.…",
        hint=f"rename this one; {served} is served",
    )


def _look_at(
    source: Source, modules: ProjectModules, plugins: Plugins, pools: Collection[str]
) -> SourceInfo:
    own = modules.of(source.module, source.file)
    texts = modules.read(modules.plugins | own | modules.makers(own))
    found = text.imports_of(modules.trees(own))
    imports = frozenset(name for name in found if not modules.is_own(name))
    libraries = imports.union(*plugins.call("skipper_libraries", _modules, imports=imports))
    variables = plugins.call("skipper_environment", _variables, imports=imports)
    return SourceInfo(
        name=source.name,
        file=source.file,
        module=source.module,
        origin=source.origin,
        code=text.code_hash(texts),
        files=tuple(each.file for each in texts),
        imports=_heavy(imports),
        libraries=_heavy(libraries),
        environment={name: value for named in variables for name, value in named.items()},
        pools=text.pools_of(modules.trees(modules_in(source.module, source.file)), pools),
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


def _heavy(names: Iterable[str]) -> tuple[str, ...]:
    """What a template is to hold: what not every instance has anyway."""
    return tuple(sorted(name for name in names if name not in sys.modules))


def load(source: SourceInfo, mistakes: list[Mistake] | None = None) -> list[Function[..., object]]:
    """Import a file of functions, without those that are wrong, which are added to ``mistakes``.

    Raises whatever the file raises.
    """
    mistakes = [] if mistakes is None else mistakes
    with keeping(mistakes):
        module = importlib.import_module(source.module)
        functions = defined_in(module.__name__)
    # Not those of other files, which tell of them themselves.
    mistakes[:] = [each for each in mistakes if each.function.startswith(source.name + ".")]
    if source.file.name == "__init__.py":
        functions += [
            f for f in vars(module).values() if isinstance(f, Function) and f not in functions
        ]
    wrong = {each.function for each in mistakes}
    functions = [
        f for f in functions if f.name.startswith(source.name + ".") and f.name not in wrong
    ]
    if not functions and not mistakes:
        raise DefinitionError(
            "it defines no function; write @skipper.data, @skipper.training or @skipper.inference "
            "before one, or begin the file's name with _ if it is a helper.",
            file=str(source.file),
        )
    return functions


def read(job: Job, plugins: Plugins, texts: tuple[ModuleText, ...]) -> Report:
    """Load a file and report what each of its functions declares, and all that is wrong with it.

    ``texts`` are what its modules are imported from.
    """
    assert job.source is not None
    code, file = text.code_hash(texts), job.source.file
    mistakes: list[Mistake] = []
    try:
        hand_over(plugins, job)
        functions = load(job.source, mistakes)
    except BaseException as error:  # noqa: BLE001 - a file may raise anything, SystemExit too
        return Report(broken=(*_described(mistakes, file), describe(error, file)), code=code)
    specs = [_spec_of(function, code, job.pools, mistakes) for function in functions]
    return Report(
        specs=tuple(spec for spec in specs if spec is not None),
        broken=tuple(_described(mistakes, file)),
        texts=texts,
        code=code,
    )


def _spec_of(
    function: Function[..., object], code: str, pools: Collection[str], mistakes: list[Mistake]
) -> FunctionSpec | None:
    """What a function declares; None where that cannot be served, which ``mistakes`` then tell."""
    try:
        spec = function.spec(code)
        check_pool(spec, pools)
    except BaseException as error:  # noqa: BLE001 - a hint may be anything that can be called
        mistakes.append(Mistake(function.name, error))
        return None
    return spec


def _described(mistakes: Iterable[Mistake], file: Path) -> Iterator[BrokenFile]:
    """What is wrong with functions of a file, in the order of its lines."""
    found = [(each.function, describe(each.error, file)) for each in mistakes]
    for function, item in sorted(found, key=lambda each: each[1].line or 0):
        yield item.model_copy(update={"function": function})
