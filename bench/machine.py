"""What the figures were measured on: hardware, kernel, programs, packages."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psutil

from bench import peers
from skipper.launcher import valkey

_OURS = (
    "fastapi",
    "starlette",
    "uvicorn",
    "celery",
    "pydantic",
    "sqlalchemy",
    "uvloop",
    "numpy",
)
_THEIRS = (
    "litserve",
    "bentoml",
    "fastapi",
    "starlette",
    "uvicorn",
    "celery",
    "redis",
    "keras",
    "numpy",
)
_PROGRAMS = {
    "redis": ["redis-server", "--version"],
    "postgresql": ["psql", "--version"],
    "rabbitmq": ["rabbitmqctl", "version"],
}


def describe() -> dict[str, str]:
    """The machine, in words for a page."""
    memory_gb = psutil.virtual_memory().total / (1 << 30)
    return {
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "memory": f"{memory_gb:.0f} GiB",
        "system": f"{_system()}, Linux {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Releases of what was measured: Skipper's packages, the peers' and the programs."""
    found = {"skipper": version("skipper-runtime"), "wrk": _wrk()}
    tensorflow = [name for name in ("tensorflow", "tensorflow-cpu") if _has(name)]
    found |= {f"skipper on {name}": version(name) for name in (*_OURS, *tensorflow)}
    found |= {f"peers: {name}": release for name, release in _of_peers().items()}
    programs = _PROGRAMS | {"valkey": [str(valkey.find_server()), "--version"]}
    for name, command in programs.items():
        if release := _first_number(command):
            found[name] = release
    return found


def commit() -> str:
    """The checkout's commit, and whether anything in it has been changed since."""
    command = ["git", "-C", str(peers.ROOT), "describe", "--always", "--dirty"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return told.stdout.strip()


def load() -> float:
    """Processes that wanted a core, on average over the last minute."""
    return os.getloadavg()[0]


def _has(name: str) -> bool:
    try:
        return bool(version(name))
    except ModuleNotFoundError:
        return False


def _of_peers() -> dict[str, str]:
    code = (
        "import json,sys; from importlib.metadata import version;"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    if not peers.PYTHON.exists():
        return {}
    told = subprocess.run(
        [peers.PYTHON, "-c", code, *_THEIRS], capture_output=True, text=True, check=True
    )
    releases: dict[str, str] = json.loads(told.stdout)
    return releases


def _first_number(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(r"\d+(?:\.\d+)+", told.stdout)
    return match[0] if match else ""


def _wrk() -> str:
    if shutil.which("wrk") is None:
        return ""
    told = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    match = re.search(r"wrk (\S+)", told.stdout + told.stderr)
    return match[1] if match else "?"


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    match = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return sys.platform
