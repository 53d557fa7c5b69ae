"""What can be read off a file of functions without importing it: hash, imports, pools."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from skipper.spec import DEFAULT_POOL

_KINDS = ("data", "training", "inference")


def read(file: Path) -> dict[Path, bytes]:
    """The source text of a function file, or of every module of its package. Raises OSError."""
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return {path: path.read_bytes() for path in files}


def code_hash(texts: Mapping[Path, bytes]) -> str:
    """Names one state of the source text: 12 hexadecimal digits of its SHA-256."""
    digest = hashlib.sha256()
    for path, text in sorted(texts.items()):
        digest.update(path.name.encode() + b"\0" + text + b"\0")
    return digest.hexdigest()[:12]


def imports_of(trees: list[ast.Module]) -> frozenset[str]:
    """Third-party modules imported when the file is loaded, dotted; not those inside functions."""
    found = {name for tree in trees for node in _at_load(tree.body) for name in _imported(node)}
    return frozenset(
        name
        for name in found
        if name.partition(".")[0] not in (*sys.stdlib_module_names, "skipper", "functions")
    )


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
