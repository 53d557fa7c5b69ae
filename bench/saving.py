"""How long a large model takes to be saved, beside copying and hashing the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.options import Bench
from skipper.blobs import BlobStore
from skipper.function.model import Model
from skipper.instance.models import LoadedModels
from skipper.instance.plugins import Plugins

SIZE_MB = 1024
_PIECE = 1 << 20


def measure(bench: Bench) -> None:
    """Add the times of saving a file of 1 GB, of ``cp`` and of ``sha256sum``, each on the disk.

    ``cp`` is followed by a sync of its copy, because what is saved is sure to be there.
    """
    size = bench.scaled(SIZE_MB, 16)
    with tempfile.TemporaryDirectory(prefix="skipper-bench-saving-", dir=".") as name:
        folder = Path(name)
        file = _written(folder / "weights", size)
        models = LoadedModels(
            BlobStore(str(folder / "blobs")),
            Plugins(folder / "plugins"),
            tmp_dir=folder / "tmp",
            models_dir=folder / "models",
        )
        saved_s = _seconds(lambda: models.save(Model("large", file)))
        shutil.rmtree(folder / "blobs")
        copied_s = _seconds(lambda: _copied(file, folder / "copy"))
        hashed_s = _seconds(lambda: _run("sha256sum", str(file)))
    bench.figures.add("models.save_mb_per_s", size / saved_s)
    bench.figures.add("models.copy_and_hash_mb_per_s", size / (copied_s + hashed_s))


def _written(file: Path, size: int) -> Path:
    piece = os.urandom(_PIECE)
    with file.open("wb") as stream:
        for number in range(size):
            stream.write(number.to_bytes(8, "big") + piece[8:])
    return file


def _copied(file: Path, target: Path) -> None:
    _run("cp", str(file), str(target))
    _run("sync", str(target))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
