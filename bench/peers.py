"""The environments that the peers run in: below `.bench`, made from bench/requirements*.txt."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".bench"
"""Everything that measuring leaves behind."""
APPS = ROOT / "bench" / "apps"


class MissingError(Exception):
    """Something that is to be measured is not on this machine; says what to do."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment: where it is, and the lock that says what is in it."""

    folder: Path
    lock: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def make(self) -> None:
        """Make it, unless it holds just what the lock says."""
        stamp, wanted = self.folder / "skipper-stamp", self._wanted()
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return
        lock, folder = self.lock.relative_to(ROOT), self.folder.relative_to(ROOT)
        say(f"installing {lock} into {folder}; a few minutes")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(exist_ok=True)
        _run(sys.executable, "-m", "venv", self.folder)
        install = ("-m", "pip", "install", "--quiet", "--no-compile", "--no-deps")
        _run(self.python, *install, "--require-hashes", "--requirement", self.lock)
        # As in .venv: no first import should have to compile, whatever the environment says.
        compile_all = ("-m", "compileall", "-qq", "-j", "0", "-x", "/tests?/", self.folder / "lib")
        subprocess.run([self.python, *compile_all], check=False)
        stamp.write_text(wanted, encoding="utf-8")

    def _wanted(self) -> str:
        digest = hashlib.sha256(self.lock.read_bytes()).hexdigest()
        return f"{sys.version_info[:3]} {self.folder} {digest}"


PEERS = Environment(WORK / "venv", ROOT / "bench" / "requirements.txt")
MLSERVER = Environment(WORK / "mlserver", ROOT / "bench" / "requirements-mlserver.txt")
"""By itself, because it asks for other releases of what the other peers hold, too."""
PYTHON = PEERS.python


def need(program: str, package: str) -> None:
    """Raise :class:`MissingError` where ``program`` is not on the PATH."""
    if shutil.which(program) is None:
        raise MissingError(f"{program} is missing; on Debian and Ubuntu: apt-get install {package}")


def environment() -> dict[str, str]:
    """The environment of everything that is measured: without Skipper's or Python's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SKIPPER_", "PYTHON"))}
    # The same as Skipper's plugin sets, so that both compute alike; and no GPU for anybody.
    return kept | {
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "BENTOML_DO_NOT_TRACK": "True",
    }


def say(line: str) -> None:
    """Tell whoever waits what is being done."""
    print(f"bench: {line}", file=sys.stderr, flush=True)


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)
