"""The built-in plugin: each ``*.py`` file and package in ``functions/`` is a source."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from skipper.hookspecs import Project, Source, hook
from skipper.spec import BrokenFile


@hook
def skipper_sources(project: Project) -> Iterator[Source]:
    """One level deep; names that begin with ``_`` or ``.`` are helpers, not sources."""
    if not project.functions_dir.is_dir():
        return
    for path in sorted(project.functions_dir.iterdir()):
        file = _source_file(path)
        if file is not None:
            yield Source(
                name=path.stem, file=file, module=f"functions.{path.stem}", origin="functions"
            )


def _source_file(path: Path) -> Path | None:
    if not path.stem.isidentifier() or path.stem.startswith("_"):
        return None
    if path.is_dir():
        return file if (file := path / "__init__.py").is_file() else None
    return path if path.suffix == ".py" and path.is_file() else None


def left_out(project: Project) -> Iterator[BrokenFile]:
    """What somebody may take for a source, and why it is none; a name that would do."""
    if not project.functions_dir.is_dir():
        return
    for path in sorted(project.functions_dir.iterdir()):
        if path.name.startswith(("_", ".")) or _source_file(path) is not None:
            continue
        if path.is_dir():
            yield from _left_out_of_folder(path)
        elif path.suffix.lower() == ".py" and path.is_file():
            yield _badly_named(path, f"{_plain(path.stem)}.py")


def _left_out_of_folder(folder: Path) -> Iterator[BrokenFile]:
    if (folder / "__init__.py").is_file():
        yield _badly_named(folder / "__init__.py", f"{_plain(folder.name)}/")
        return
    for file in sorted(folder.glob("*.py")):
        if _has_functions(file):  # else it may well be a helper
            yield BrokenFile(
                file=str(file),
                error=f"it is left out: {folder.name}/ is a folder, and no package",
                hint=f"move the file up into functions/, or import its functions in a file "
                f"{folder.name}/__init__.py",
            )


def _has_functions(file: Path) -> bool:
    with contextlib.suppress(OSError):  # what cannot be read must not hide all other files
        return file.is_file() and _DECORATED.search(file.read_bytes()) is not None
    return False


def _badly_named(file: Path, better: str) -> BrokenFile:
    name = file.parent.name if file.name == "__init__.py" else file.name
    error = f"it is left out: {name!r} is no name that Python imports"
    return BrokenFile(file=str(file), error=error, hint=f"rename it {better}")


def _plain(stem: str) -> str:
    """A name like ``stem`` that can be imported: ``my-model`` → ``my_model``."""
    plain = re.sub(r"\W+", "_", stem).strip("_")
    digits, _, rest = plain.partition("_")
    if digits.isdecimal():  # 2024_prices → prices_2024
        plain = f"{rest}_{digits}" if rest else f"file_{digits}"
    return plain if plain.isidentifier() else f"file_{plain}"


_DECORATED = re.compile(rb"^\s*@(skipper\.)?(data|training|inference)\b", re.MULTILINE)
