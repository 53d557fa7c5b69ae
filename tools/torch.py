"""Run the tests that need PyTorch: `make test-torch`.

They have an environment of their own beside .venv, which sees all that .venv holds: with PyTorch in
the locks every `make setup` would fetch it, for most platforms with gigabytes of CUDA.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tools import bootstrap

ROOT = bootstrap.ROOT
VENV = ROOT / ".venv-torch"
NEEDS = ROOT / "requirements" / "torch.txt"
TESTS = "tests/torch"


def main(arguments: list[str]) -> int:
    """Make the environment, unless it stands, and run the tests; ``arguments`` are for pytest."""
    try:
        make()
    except bootstrap.SetupError as error:
        print(f"test-torch: {error}", flush=True)
        return 1
    command = [str(bootstrap.python_of(VENV)), "-m", "pytest", TESTS, "-q", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def make() -> None:
    """Have .venv-torch hold what its tests need beyond .venv."""
    stamp, wanted = VENV / "skipper-stamp", digest()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    print(f"test-torch: making {VENV.name}", flush=True)
    bootstrap.run(sys.executable, "-m", "venv", "--without-pip", VENV)
    for folder in VENV.glob("lib/python*/site-packages"):
        line = f"import site; site.addsitedir({str(outer())!r})\n"
        (folder / "outer.pth").write_text(line, encoding="utf-8")
    bootstrap.run(bootstrap.python_of(VENV), "-m", "pip", "install", "--quiet", "-r", NEEDS)
    stamp.write_text(wanted, encoding="utf-8")


def outer() -> Path:
    """Where .venv has its packages."""
    return next(bootstrap.VENV.glob("lib/python*/site-packages"))


def digest() -> str:
    """Names all that the environment is made from."""
    texts = (NEEDS.read_bytes(), str(VENV).encode(), sys.version.encode())
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
