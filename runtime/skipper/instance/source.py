"""What can be read off the text of a module without importing it: hash, imports, pools."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from skipper.instance.jobs import ModuleText
from skipper.spec import DEFAULT_POOL

_IMPORTERS = frozenset({"import_module", "__import__"})
_KINDS = ("data", "training", "inference")


def code_hash(texts: Iterable[ModuleText]) -> str:
    """Names one state of the texts: 12 hexadecimal digits of their SHA-256."""
    digest = hashlib.sha256()
    for name, text in sorted((each.name, each.text) for each in texts):
        digest.update(b"%b\0%d\0%b" % (name.encode(), len(text), text))
    return digest.hexdigest()[:12]


def imports_of(trees: Iterable[ast.Module]) -> frozenset[str]:
    """What modules of others are imported when these are loaded, dotted; not inside functions."""
    found = {name for tree in trees for node in _at_load(tree.body) for name in _imported(node)}
    others = (*sys.stdlib_module_names, "skipper", "functions")
    return frozenset(name for name in found if name.partition(".")[0] not in others)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What a module imports, wherever in its text, by absolute names."""

    names: frozenset[str]
    is_open: bool
    """Whether it also imports what only running it can show."""


def imported_by(tree: ast.Module, package: str) -> Imported:
    """What a module of ``package`` imports. Of ``from a import b``, b may be a module: both."""
    names, is_open = set[str](), False
    for node in _run_parts(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and _name_of(node.func) in _IMPORTERS:
            named = node.args[0] if node.args else None
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                names.add(_absolute(named.value, package))
            else:
                is_open = True
    return Imported(names=frozenset(names - {""}), is_open=is_open)


@dataclass(frozen=True, kw_only=True)
class ModelNames:
    """The models that a module makes and loads, as far as their names stand in its text."""

    made: frozenset[str]
    loaded: frozenset[str]


def models_in(tree: ast.Module) -> ModelNames:
    """What ``Model("name", …)`` and ``Loaded("name")`` name: a text, or a module's constant."""
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: dict[str, set[str]] = {"Model": set(), "Loaded": set()}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or (kind := _name_of(node.func)) not in found:
            continue
        named = [*node.args[:1], *(each.value for each in node.keywords if each.arg == "name")]
        for value in named:
            known = constants.get(value.id, value) if isinstance(value, ast.Name) else value
            if isinstance(known, ast.Constant) and isinstance(known.value, str):
                found[kind].add(known.value.partition("@")[0])
    return ModelNames(made=frozenset(found["Model"]), loaded=frozenset(found["Loaded"]))


def _run_parts(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that are there for type checkers alone."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for part in child.orelse:
                yield from _run_parts(part)
        else:
            yield from _run_parts(child)


def _absolute(name: str, package: str) -> str:
    """``.rates`` in the package ``functions.house`` → ``functions.house.rates``."""
    inner = name.lstrip(".")
    if (level := len(name) - len(inner)) == 0:
        return name
    parts = package.split(".")
    return ".".join(part for part in (*parts[: len(parts) - level + 1], inner) if part)


def _name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def pools_of(trees: list[ast.Module], known: Collection[str]) -> tuple[str, ...] | None:
    """The pools that decorators name, or None where only running the file can show them.

    That is so for a decorator with ``**options`` or a computed pool, and for one that is kept under
    another name; and where a pool is not ``known``, because reading the file then says so.
    """
    pools: set[str] = set()
    for tree in trees:
        modules, kinds = _skipper_names(tree)
        decorators = [d for node in ast.walk(tree) for d in getattr(node, "decorator_list", [])]
        understood: set[ast.AST] = set()
        for decorator in decorators:
            reference = decorator.func if isinstance(decorator, ast.Call) else decorator
            if not _is_kind(reference, modules, kinds):
                continue
            pool = _literal_pool(decorator)
            if pool is None or pool not in known:
                return None
            pools.add(pool)
            understood.add(reference)
        references = {node for node in ast.walk(tree) if _is_kind(node, modules, kinds)}
        if references - understood:
            return None
    return tuple(sorted(pools)) or None


def _at_load(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _at_load(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody", "handlers"):
                for inner in getattr(node, part, []):
                    yield from _at_load(
                        inner.body if isinstance(inner, ast.ExceptHandler) else [inner]
                    )
        else:
            yield node


def _imported(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module


def _skipper_names(tree: ast.Module) -> tuple[set[str], set[str]]:
    modules, kinds = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {a.asname or a.name for a in node.names if a.name == "skipper"}
        elif isinstance(node, ast.ImportFrom) and node.module == "skipper":
            kinds |= {alias.asname or alias.name for alias in node.names if alias.name in _KINDS}
    return modules, kinds


def _is_kind(node: ast.AST, modules: set[str], kinds: set[str]) -> bool:
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id in modules and node.attr in _KINDS
    return isinstance(node, ast.Name) and node.id in kinds


def _literal_pool(decorator: ast.expr) -> str | None:
    if not isinstance(decorator, ast.Call):
        return DEFAULT_POOL
    for keyword in decorator.keywords:
        if keyword.arg is None:
            return None
        if keyword.arg == "pool":
            value = keyword.value
            return (
                value.value
                if isinstance(value, ast.Constant) and isinstance(value.value, str)
                else None
            )
    return DEFAULT_POOL
