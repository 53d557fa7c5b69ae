"""The models that an instance holds: loaded through format plugins, exchanged between two calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from skipper.blobs import BlobStore, temporary_folder
from skipper.errors import FormatError
from skipper.function.model import Model
from skipper.instance.jobs import ModelRef
from skipper.instance.plugins import Plugins


class LoadedModels:
    """Models by name, each in one version. Not shared between threads.

    ``tmp_dir`` is where a model's files lie while a plugin reads or writes them.
    """

    def __init__(self, store: BlobStore, plugins: Plugins, tmp_dir: Path) -> None:
        self._store, self._plugins, self._tmp_dir = store, plugins, tmp_dir
        self._values: dict[str, Any] = {}
        self._refs: dict[str, ModelRef] = {}
        self._states: dict[str, bytes | None] = {}
        """Digests of what was loaded, by name: once a task has been given it."""

    def put(self, ref: ModelRef) -> None:
        """Hold a version from now on, if it was assigned after the one that is held.

        It is loaded unless it is that one. What is held stays where that fails.
        """
        held = self._refs.get(ref.name)
        if held is not None and held.seq >= ref.seq:
            return
        if held is None or held.version != ref.version:
            self._values[ref.name] = self._load(ref)
            self._states.pop(ref.name, None)
        self._refs[ref.name] = ref

    def _load(self, ref: ModelRef) -> Any:
        return self.read(ref.format, ref.digest, f"model {ref.name!r}")

    def read(self, format_: str, digest: str, what: str) -> Any:
        """A value that :meth:`write` wrote and that is in the store; ``what`` it is, for messages.

        Raises FormatError where no plugin loads the format, OSError, and what a plugin raises.
        """
        with temporary_folder(self._tmp_dir) as folder:
            self._store.get_folder(digest, Path(folder))
            value = self._plugins.hook.skipper_load_model(format=format_, folder=Path(folder))
        if value is None:
            raise FormatError(f"no plugin loads models of format {format_!r} ({what})")
        return value

    def injected(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Keyword arguments for ``parameters`` (parameter name → model name)."""
        return {parameter: self._values[name] for parameter, name in parameters.items()}

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
        format_, value = self._refs[name].format, self._values[name]
        digest: bytes | None = self._plugins.hook.skipper_model_state(format=format_, model=value)
        return digest

    def seq(self, name: str) -> int:
        """The number of the assignment that has the held version serve."""
        return self._refs[name].seq

    @property
    def versions(self) -> list[str]:
        """``name@version`` of each model held."""
        return [f"{ref.name}@{ref.version}" for ref in self._refs.values()]

    def save(self, model: Model) -> dict[str, str]:
        """Put a trained model into the store: its ``format`` and ``digest``.

        Raises FormatError where no plugin saves it, OSError, and what a plugin raises.
        """
        with temporary_folder(self._tmp_dir) as folder:
            format_ = self.write(model.value, Path(folder), f"model {model.name!r}")
            return {"format": format_, "digest": self._store.put_folder(Path(folder))}

    def write(self, value: Any, folder: Path, what: str) -> str:
        """Write a value to files in an empty folder; its format. ``what`` it is, for messages.

        Raises FormatError where no plugin saves it, and what a plugin raises.
        """
        format_: str | None = self._plugins.hook.skipper_save_model(value=value, folder=folder)
        if format_ is None:
            kind = type(value)
            raise FormatError(
                f"no plugin saves a {kind.__module__}.{kind.__qualname__} "
                f"({what}); loaded plugins: {', '.join(self._plugins.names)}"
            )
        return format_


class ChangeWatch:
    """Looks whether direct calls change the models that all calls of their process share.

    For development, since each look takes time: at the first call, the second, the fourth, the
    eighth, and so on.
    """

    def __init__(self, models: LoadedModels, names: Iterable[str]) -> None:
        self._models, self._names = models, [*dict.fromkeys(names)]
        self._states: dict[tuple[str, int], bytes | None] = {}
        self._calls = 0

    def look(self) -> list[str]:
        """Before a call: the names of models that have changed since the last look."""
        self._calls += 1
        if self._calls & (self._calls - 1):  # it is no power of two
            return []
        return [name for name in self._names if self._has_changed(name)]

    def _has_changed(self, name: str) -> bool:
        key, state = (name, self._models.seq(name)), self._models.state(name)
        before, self._states[key] = self._states.get(key, state), state
        return before != state
