"""The models that an instance holds: loaded through format plugins, from its start to its end."""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from skipper.blobs import BlobStore, DamagedError, temporary_folder
from skipper.errors import FormatError
from skipper.function.model import Model
from skipper.instance.faults import shown
from skipper.instance.jobs import ModelRef
from skipper.instance.model_files import LoadedValue, ModelFiles, SavedValue
from skipper.instance.model_folders import HeldFolder, ModelFolders
from skipper.instance.plugins import Plugins
from skipper.instance.provenance import differing
from skipper.values.store import is_for_want_of_room

_PICKLE = "value.pickle"


class LoadedModels:
    """Models by name, each in one version. Not shared between threads.

    ``tmp_dir`` is where a model's files lie while a plugin writes them, ``models_dir`` where they
    lie while a model is held, for all processes of the machine.
    """

    def __init__(
        self, store: BlobStore, plugins: Plugins, *, tmp_dir: Path, models_dir: Path
    ) -> None:
        self._store, self._files, self._tmp_dir = store, ModelFiles(plugins), tmp_dir
        self._folders = ModelFolders(store, models_dir)
        self._values: dict[str, LoadedValue] = {}
        self._refs: dict[str, ModelRef] = {}
        self._states: dict[str, bytes | None] = {}
        """Digests of what was loaded, by name: once a task has been given it."""

    def put(self, ref: ModelRef) -> None:
        """Load a version, and hold it from now on. Raises as loading does."""
        self._values[ref.key] = self._load(ref)
        self._states.pop(ref.key, None)
        self._refs[ref.key] = ref

    def _load(self, ref: ModelRef) -> LoadedValue:
        return self._read(ref.format, ref.digest, f"model {ref.name!r}")

    def read(self, format_: str, digest: str, what: str) -> Any:
        """A value that :meth:`write` has put into the store; ``what`` it is, for messages.

        Raises FormatError where nothing loads the format or what is stored is damaged or gone,
        OSError, and what a plugin raises.
        """
        return self._read(format_, digest, what).value

    def _read(self, format_: str, digest: str, what: str) -> LoadedValue:
        held, others = self._fetch(digest, what)
        try:
            loaded = self._files.load(format_, held.path, held)
        except Exception as error:
            if not others and not isinstance(error, FormatError):
                raise
            about = f"{what}; {others}" if others else what
            raise FormatError(f"{error} ({about})") from error
        if others:
            sys.stderr.write(f"{what} can be loaded, but was {others}\n")
        return loaded

    def _fetch(self, digest: str, what: str) -> tuple[HeldFolder, str]:
        """A stored value's files, and which libraries it was made with that differ."""
        try:
            stored = self._store.folder(digest)
            return self._folders.hold(digest, stored), differing(stored.made_with)
        except FileNotFoundError as error:
            raise FormatError(f"a file of it is no longer stored ({what})") from error
        except DamagedError as error:
            name = error.filename if error.filename != digest else "its list of files"
            raise FormatError(
                f"{name} is not what was stored, so it is damaged ({what})"
            ) from error

    def injected(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Keyword arguments for ``parameters`` (parameter name → model name)."""
        return {parameter: self._values[name].value for parameter, name in parameters.items()}

    def as_stored(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """As :meth:`injected`, for one task: whatever an earlier one has changed is loaded anew.

        Raises as loading does.
        """
        for name in {*parameters.values()}:
            state = self.state(name) if name in self._states else None
            if name in self._states and (state is None or state != self._states[name]):
                self._values[name] = self._load(self._refs[name])
                state = None
            self._states[name] = state or self.state(name)
        return self.injected(parameters)

    def state(self, name: str) -> bytes | None:
        """A digest of all that a run could change about a model; None where nobody can tell."""
        return self._files.state(self._values[name])

    @property
    def versions(self) -> list[str]:
        """``name@version`` of each model held."""
        return [*dict.fromkeys(ref.label for ref in self._refs.values())]

    def save(self, model: Model) -> dict[str, str]:
        """Put a trained model into the store: its ``format`` and ``digest``.

        Raises UnsavedModelError where something of it has no format, or its plugin failed, and
        OSError where the disk is full.
        """
        with temporary_folder(self._tmp_dir) as name:
            folder, what = Path(name), f"model {model.name!r}"
            try:
                saved = self._save(model.value, folder, what)
            except Exception as error:
                if isinstance(error, OSError) and is_for_want_of_room(error):
                    raise
                rescue = self._rescued(model.value, folder)
                raise UnsavedModelError(_why(error, what), rescue) from error
            made_with = saved.made_with
            digest = self._store.put_folder(folder, made_with=made_with, adopts=True)
            return {"format": saved.format, "digest": digest}

    def _rescued(self, value: Any, folder: Path) -> str | None:
        """Store what there is of a value that cannot be saved; None where that is nothing.

        Beside the parts that could be saved lies the value as Python pickles it, for its author:
        nothing of Skipper ever reads that.
        """
        try:
            with (folder / _PICKLE).open("wb") as stream:
                pickle.dump(value, stream, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001 - what is pickled may raise anything
            (folder / _PICKLE).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            if any(each.is_file() for each in folder.rglob("*")):
                return self._store.put_folder(folder, adopts=True)
        return None

    def write(self, value: Any, folder: Path, what: str) -> str:
        """Write a value to files in an empty folder; its format. ``what`` it is, for messages.

        Raises as :meth:`save` does.
        """
        return self._save(value, folder, what).format

    def _save(self, value: Any, folder: Path, what: str) -> SavedValue:
        try:
            return self._files.save(value, folder)
        except FormatError as error:
            raise FormatError(f"{error} ({what})") from error


class UnsavedModelError(FormatError):
    """A trained model that cannot be saved. ``rescue`` is a stored folder with what there is of it.

    Not to be retried: the same training would give the same.
    """

    def __init__(self, message: str, rescue: str | None) -> None:
        super().__init__(message)
        self.rescue = rescue


def _why(error: Exception, what: str) -> str:
    return str(error) if isinstance(error, FormatError) else f"{what} is not saved: {shown(error)}"


class ChangeWatch:
    """Looks whether direct calls change the models that all calls of their process share.

    For development, since each look takes time: at the first call, the second, the fourth, the
    eighth, and so on.
    """

    def __init__(self, models: LoadedModels, names: Iterable[str]) -> None:
        self._models, self._names = models, [*dict.fromkeys(names)]
        self._states: dict[str, bytes | None] = {}
        self._calls = 0

    def look(self) -> list[str]:
        """Before a call: the names of models that have changed since the last look."""
        self._calls += 1
        if self._calls & (self._calls - 1):  # it is no power of two
            return []
        return [name for name in self._names if self._has_changed(name)]

    def _has_changed(self, name: str) -> bool:
        state = self._models.state(name)
        before, self._states[name] = self._states.get(name, state), state
        return before != state
