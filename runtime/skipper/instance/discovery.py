"""The built-in plugin: each ``*.py`` file and package in ``functions/`` is a source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from skipper.hookspecs import Project, Source, hook


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
