"""Write bench/requirements*.txt anew: `.venv/bin/python bench/lock.py [--upgrade]`.

They pin the peers with the hashes of all files of a release, for Linux, as tools/lock.py does for
the project. What the environments hold of the web, of Celery and of TensorFlow is one release, so
that a ratio compares runtimes and not versions of their libraries; MLServer allows that for
TensorFlow alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path

BENCH = Path(__file__).resolve().parent
PROJECT_LOCK = BENCH.parent / "requirements" / "lock-tensorflow-cpu.txt"
SHARED = {
    "requirements": (
        "celery|fastapi|httptools|pydantic|pydantic-core|redis|starlette|tensorflow-cpu|uvicorn"
        "|uvloop"
    ),
    "requirements-mlserver": "tensorflow-cpu",
}
"""What each lock has of the project's own."""
_MARKERS = [
    f"sys_platform == 'linux' and platform_machine == '{machine}' and python_full_version < '3.14'"
    for machine in ("x86_64", "aarch64")
]


def main() -> None:
    """Resolve the lock; uv gets the arguments of this command too."""
    with tempfile.TemporaryDirectory(prefix="skipper-bench-lock-") as scratch:
        venv.create(scratch, with_pip=True)
        folder = Path(scratch)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", "uv>=0.9"], check=True)
        # uv takes the platforms to resolve for from a pyproject.toml and from nowhere else.
        project = f"[tool.uv]\nenvironments = {json.dumps(_MARKERS)}\n"
        (folder / "pyproject.toml").write_text(project, encoding="utf-8")
        for name, shared in SHARED.items():
            (folder / "pins.txt").write_text(shared_pins(shared), encoding="utf-8")
            resolve(folder, name)
            drop_common_marker(BENCH / f"{name}.txt")


def shared_pins(shared: str) -> str:
    """The releases of the project's own lock that peers are to run on."""
    text = PROJECT_LOCK.read_text(encoding="utf-8")
    pins = re.findall(rf"^(?:{shared})==[^\s;]+", text, re.MULTILINE)
    pins += [pin.replace("-cpu", "") for pin in pins if pin.startswith("tensorflow")]
    return "\n".join(pins) + "\n"


def resolve(folder: Path, name: str) -> None:
    command: list[str | Path] = [folder / "bin" / "uv", "pip", "compile", "--quiet"]
    command += ["--universal", "--python-version", "3.11", "--fork-strategy", "fewest"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--no-annotate", "--custom-compile-command", "python bench/lock.py"]
    command += ["--constraint", folder / "pins.txt", "--output-file", BENCH / f"{name}.txt"]
    command += [*sys.argv[1:], BENCH / f"{name}.in"]
    # The machine's own settings of uv (indexes, find-links) must not reach the lock.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    subprocess.run(command, check=True, cwd=folder, env=environ)


def drop_common_marker(lock: Path) -> None:
    """uv writes the platforms behind every pin; only what differs from them is worth reading."""
    text = lock.read_text(encoding="utf-8")
    (common, _), *_ = Counter(re.findall(r" ; .+(?= \\$)", text, re.MULTILINE)).most_common(1)
    lock.write_text(text.replace(f"{common} \\\n", " \\\n"), encoding="utf-8")


if __name__ == "__main__":
    main()
