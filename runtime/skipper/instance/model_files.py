"""What a model's value is written as: one part of a plugin's, a path, or a structure of such parts.

A part is what a format plugin writes and reads, whole. A structure is one folder: a manifest, and a
numbered folder for each part.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from skipper.errors import FormatError
from skipper.instance import scalars, trees
from skipper.instance.faults import shown
from skipper.instance.plugins import Plugins
from skipper.instance.provenance import libraries_of
from skipper.instance.structure import (
    NotPlainError,
    StructureReader,
    StructureWriter,
)
from skipper.instance.trees import FILE, FOLDER

PARTS = "parts"
"""The format of a structure."""
MANIFEST = "skipper-parts.json"
MANIFEST_SIZE = 256 << 20
"""Bytes of a manifest."""
_OWN = (PARTS, FILE, FOLDER)
_ROOT = "value"
_SHOWN = 5
"""Parts that are not saved, of which a message tells."""


class PartRecord(BaseModel):
    """A part in the manifest: that with this number lies in the folder of that name."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: str


class Manifest(BaseModel):
    """What a structure is made of."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: Literal[1] = 1
    parts: tuple[PartRecord, ...]
    value: Any
    """As :mod:`skipper.instance.structure` writes it."""


@dataclass(frozen=True, kw_only=True)
class LoadedValue:
    """A value that was loaded, its format, and the parts that it has, each with its own."""

    value: Any
    format: str
    parts: tuple[tuple[Any, str], ...]
    held: object
    """What keeps its files where they are."""


class SavedValue(NamedTuple):
    """How a value was saved: its format, and the libraries that made it, with their versions."""

    format: str
    made_with: Mapping[str, str]


class UnsavedError(FormatError):
    """A value of which not everything could be saved.

    ``saved`` is how many parts of it could: they are in the folder.
    """

    def __init__(self, message: str, saved: int = 0) -> None:
        super().__init__(message)
        self.saved = saved


class ModelFiles:
    """The formats of one project: those of its plugins, and the runtime's own."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    # --- writing ---

    def save(self, value: Any, folder: Path) -> SavedValue:
        """Write a value to files in the empty ``folder``.

        Raises UnsavedError where something of it has no format, or a plugin failed with a part, and
        OSError where the disk is full; of what is one part alone, whatever its plugin raises.
        """
        format_ = None if scalars.is_scalar(value) else self.save_part(value, folder, _ROOT)
        if format_ is None:
            return _Saving(self, folder).save(value)
        return SavedValue(format_, libraries_of([type(value)]))

    def save_part(self, value: Any, folder: Path, place: str) -> str | None:
        """Write what is one part; its format, None where it is none."""
        if isinstance(value, Path):
            return trees.save(value, folder)
        format_: Any = self._plugins.hook.skipper_save_model(value=value, folder=folder)
        if format_ is not None and (not isinstance(format_, str) or format_ in _OWN):
            raise FormatError(
                f"a plugin named the format of {place} {format_!r:.100}, which it may not"
            )
        return format_

    def no_format(self, value: Any, place: str) -> str:
        """Say that no plugin saves what is at ``place``, and what to do about it."""
        kind, names = type(value), ", ".join(self._plugins.names)
        return (
            f"no plugin saves {place}, a {kind.__module__}.{kind.__qualname__}; loaded plugins: "
            f"{names}. Return it as parts that have a format, as a file (pathlib.Path), or write a "
            "plugin for it"
        )

    # --- reading ---

    def load(self, format_: str, folder: Path, held: object = None) -> LoadedValue:
        """The value that :meth:`save` has written. Raises FormatError, and what a plugin raises.

        The folder stays for as long as ``held`` lives: the value keeps it, and each path in it.
        """
        if format_ != PARTS:
            value = self._load_part(format_, folder, held)
            return LoadedValue(value=value, format=format_, parts=((value, format_),), held=held)
        manifest = _manifest_in(folder)
        parts = [
            (self._load_part(part.format, folder / str(number), held), part.format)
            for number, part in enumerate(manifest.parts)
        ]
        value = StructureReader(lambda number: _at(parts, number)).read(manifest.value)
        return LoadedValue(value=value, format=format_, parts=tuple(parts), held=held)

    def _load_part(self, format_: str, folder: Path, held: object) -> Any:
        if format_ in (FILE, FOLDER):
            return trees.load(format_, folder, held)
        value = self._plugins.hook.skipper_load_model(format=format_, folder=folder)
        if value is None:
            raise FormatError(f"no plugin loads models of format {format_!r}")
        return value

    # --- comparing ---

    def state(self, loaded: LoadedValue) -> bytes | None:
        """A digest of all that a run could change about a value; None where nobody can tell."""
        if loaded.format != PARTS:
            return self._state(loaded.value, loaded.format)
        known = {id(part): (number, format_) for number, (part, format_) in enumerate(loaded.parts)}
        states: list[str] = []

        def state_of(part: Any, place: str) -> Any:
            if id(part) not in known:
                return writer.record(part, place)
            number, format_ = known[id(part)]
            if (state := self._state(part, format_)) is None:
                raise _UnknownStateError(place)
            states.append(f"{number} {state.hex()}")
            return {"part": number}

        writer = StructureWriter(state_of)
        try:
            text = json.dumps(writer.write(loaded.value))
        except (FormatError, _UnknownStateError):
            return None
        return "\n".join([*states, text]).encode()

    def _state(self, part: Any, format_: str) -> bytes | None:
        if format_ in (FILE, FOLDER):
            return b"read-only"
        digest: bytes | None = self._plugins.hook.skipper_model_state(format=format_, model=part)
        return digest


class _UnknownStateError(Exception):
    """A part whose format's plugin makes no digest of it."""


class _Saving:
    """Writes one structure into a folder, as far as that goes, whatever its parts do."""

    def __init__(self, files: ModelFiles, folder: Path) -> None:
        self._files, self._folder = files, folder
        self._parts: list[PartRecord] = []
        self._kinds: list[type] = []
        self._lost: dict[str, str] = {}
        self._writer = StructureWriter(self._part)

    def save(self, value: Any) -> SavedValue:
        try:
            written = self._writer.write(value)
        except FormatError as error:
            raise UnsavedError(str(error), len(self._parts)) from None
        if _ROOT in self._lost:
            raise UnsavedError(self._lost[_ROOT])
        manifest = {
            "version": 1,
            "parts": [part.model_dump() for part in self._parts],
            "value": written,
        }
        text = json.dumps(manifest | ({"lost": self._lost} if self._lost else {}))
        if len(text) > MANIFEST_SIZE:
            raise UnsavedError(
                f"its plain values are {len(text) >> 20} MiB, more than {MANIFEST_SIZE >> 20}: put "
                "them into an array or a file",
                len(self._parts),
            )
        (self._folder / MANIFEST).write_text(text)
        if self._lost:
            raise UnsavedError("; ".join([*self._lost.values()][:_SHOWN]), len(self._parts))
        return SavedValue(PARTS, libraries_of(self._kinds))

    def _part(self, value: Any, place: str) -> Any:
        """What stands for a part; one that cannot be saved is put down as lost."""
        try:
            return self._saved(value, place)
        except NotPlainError:
            self._lost[place] = self._files.no_format(value, place)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            kind = type(value)
            name = f"{kind.__module__}.{kind.__qualname__}"
            self._lost[place] = f"{place}, a {name}, is not saved: {shown(error)}"
        return {"lost": place}

    def _saved(self, value: Any, place: str) -> Any:
        if place == _ROOT:  # plugins have been asked for it as a whole
            return self._writer.record(value, place)
        number = len(self._parts)
        own = self._folder / str(number)
        own.mkdir()
        try:
            format_ = self._files.save_part(value, own, place)
        except BaseException:
            shutil.rmtree(own, ignore_errors=True)
            raise
        if format_ is None:
            own.rmdir()
            return self._writer.record(value, place)
        self._parts.append(PartRecord(format=format_))
        self._kinds.append(type(value))
        return {"part": number}


def _manifest_in(folder: Path) -> Manifest:
    file = folder / MANIFEST
    if file.stat().st_size > MANIFEST_SIZE:
        raise FormatError("the saved model is damaged: its manifest is too large")
    try:
        return Manifest.model_validate(_parsed(file.read_text("utf-8")), strict=True)
    except (ValidationError, ValueError, RecursionError) as error:
        found = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise FormatError(f"the saved model is damaged, or of a later version: {found}") from None


def _parsed(text: str) -> Any:
    document = json.loads(text, parse_constant=_refused)
    if isinstance(document, dict) and isinstance(document.get("parts"), list):
        document["parts"] = tuple(document["parts"])
    return document


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _at(parts: list[tuple[Any, str]], number: Any) -> Any:
    if not isinstance(number, int) or not 0 <= number < len(parts):
        raise FormatError(f"the saved model is damaged: it has no part {number!r:.100}")
    return parts[number][0]
