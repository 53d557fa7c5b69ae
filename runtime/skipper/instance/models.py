"""The models that an instance holds: loaded through format plugins, exchanged between two calls."""

from __future__ import annotations

from collections.abc import Mapping
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

    def put(self, ref: ModelRef) -> None:
        """Hold a version from now on, if it was assigned after the one that is held.

        It is loaded unless it is that one. What is held stays where that fails.
        """
        held = self._refs.get(ref.name)
        if held is not None and held.seq >= ref.seq:
            return
        if held is None or held.version != ref.version:
            self._values[ref.name] = self._load(ref)
        self._refs[ref.name] = ref

    def _load(self, ref: ModelRef) -> Any:
        with temporary_folder(self._tmp_dir) as folder:
            self._store.get_folder(ref.digest, Path(folder))
            value = self._plugins.hook.skipper_load_model(format=ref.format, folder=Path(folder))
        if value is None:
            raise FormatError(
                f"no plugin loads models of format {ref.format!r} (model {ref.name!r})"
            )
        return value

    def injected(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Keyword arguments for ``parameters`` (parameter name → model name)."""
        return {parameter: self._values[name] for parameter, name in parameters.items()}

    @property
    def versions(self) -> list[str]:
        """``name@version`` of each model held."""
        return [f"{ref.name}@{ref.version}" for ref in self._refs.values()]

    def save(self, model: Model) -> dict[str, str]:
        """Put a trained model into the store: its ``format`` and ``digest``.

        Raises FormatError where no plugin saves it, OSError, and what a plugin raises.
        """
        with temporary_folder(self._tmp_dir) as folder:
            format_ = self._plugins.hook.skipper_save_model(value=model.value, folder=Path(folder))
            if format_ is None:
                kind = type(model.value)
                raise FormatError(
                    f"no plugin saves a {kind.__module__}.{kind.__qualname__} "
                    f"(model {model.name!r}); loaded plugins: {', '.join(self._plugins.names)}"
                )
            return {"format": format_, "digest": self._store.put_folder(Path(folder))}
