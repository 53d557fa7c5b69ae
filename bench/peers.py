"""The environment that the peers run in: `.bench/venv`, made from bench/requirements.txt."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".bench"
"""Everything that measuring leaves behind."""
VENV = WORK / "venv"
PYTHON = VENV / "bin" / "python"
APPS = ROOT / "bench" / "apps"
_LOCK = ROOT / "bench" / "requirements.txt"
_STAMP = VENV / "skipper-stamp"


class MissingError(Exception):
    """Something that is to be measured is not on this machine; says what to do."""


def make() -> None:
    """Make the environment, unless it holds just what the lock says."""
    if _STAMP.exists() and _STAMP.read_text(encoding="utf-8") == _wanted():
        return
    say(f"installing {_LOCK.relative_to(ROOT)} into {VENV.relative_to(ROOT)}; a few minutes")
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.parent.mkdir(exist_ok=True)
    _run(sys.executable, "-m", "venv", VENV)
    install = ("-m", "pip", "install", "--quiet", "--no-compile", "--no-deps")
    _run(PYTHON, *install, "--require-hashes", "--requirement", _LOCK)
    # As in .venv: no first import should have to compile, whatever the environment says.
    compile_all = ("-m", "compileall", "-qq", "-j", "0", "-x", "/tests?/", VENV / "lib")
    subprocess.run([PYTHON, *compile_all], check=False)
    _STAMP.write_text(_wanted(), encoding="utf-8")


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


def _wanted() -> str:
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    return f"{sys.version_info[:3]} {VENV} {digest}"


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)
