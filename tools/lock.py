"""Write requirements/lock-*.txt anew: `make lock`.

Each lock pins everything that one kind of environment needs, with the hashes of all files of a
release, and holds for every platform and Python named below. A current uv in a throw-away
environment resolves it against the public index, so that neither a local cache of wheels nor a
mirror decides what stands in it. What two locks hold is the same release in both.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINUX_X86_64 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
LINUX_AARCH64 = "sys_platform == 'linux' and platform_machine == 'aarch64'"
MACOS_ARM64 = "sys_platform == 'darwin' and platform_machine == 'arm64'"
MACHINES = (LINUX_X86_64, LINUX_AARCH64, MACOS_ARM64)
OLDEST_PYTHON = "3.11"
PYTHONS = "python_full_version < '3.14'"  # TensorFlow 2.21 has no wheel for 3.14
EXTRAS = (
    "postgres",
    "sklearn",
    "tabular",
    "arrays",
    "images",
    "tables",
    "xgboost-cpu",
    "lightgbm",
    "onnx",
)
DEVELOPMENT = ROOT / "requirements" / "dev.in"


@dataclass(frozen=True, kw_only=True)
class Lock:
    """What one requirements/lock-NAME.txt is to hold beside the package's plain dependencies."""

    name: str
    machines: tuple[str, ...] = MACHINES
    extras: tuple[str, ...] = ()
    has_tools: bool = True
    like: str = ""
    """The lock whose releases it takes, of what is in both."""

    @property
    def file(self) -> Path:
        return ROOT / "requirements" / f"lock-{self.name}.txt"


LOCKS = (
    # .venv holds one of the first two: TensorFlow has a small build for one platform only.
    Lock(name="tensorflow", extras=("tensorflow", *EXTRAS)),
    Lock(
        name="tensorflow-cpu",
        machines=(LINUX_X86_64,),
        extras=("tensorflow-cpu", *EXTRAS),
        like="tensorflow",
    ),
    # Without TensorFlow: for the tests on other Pythons, and what a user of the wheel needs.
    Lock(name="tests", extras=EXTRAS, like="tensorflow"),
    Lock(name="core", has_tools=False, like="tensorflow"),
)
"""In the order in which they are resolved."""


def main() -> None:
    """Resolve every lock; uv gets the arguments of this command (such as --upgrade) too."""
    with tempfile.TemporaryDirectory(prefix="skipper-lock-") as scratch:
        print("installing uv for this one run", file=sys.stderr)
        venv.create(scratch, with_pip=True)
        bin_dir = Path(scratch, "bin")
        subprocess.run([bin_dir / "pip", "install", "--quiet", "uv>=0.9"], check=True)
        for lock in LOCKS:
            print(f"resolving {lock.file.relative_to(ROOT)}", file=sys.stderr)
            resolve(bin_dir / "uv", lock, Path(scratch, lock.name))


def pins(name: str) -> list[str]:
    """What the lock of this name holds, as ``name==version``."""
    text = (ROOT / "requirements" / f"lock-{name}.txt").read_text(encoding="utf-8")
    return re.findall(r"^[\w.-]+==[\w.+!]+", text, re.MULTILINE)


def resolve(uv: Path, lock: Lock, work_dir: Path) -> None:
    """Write a lock, in a `work_dir` of its own."""
    # uv takes the platforms to resolve for from a pyproject.toml and from nowhere else.
    work_dir.mkdir()
    markers = [f"{machine} and {PYTHONS}" for machine in lock.machines]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project += f"\n[tool.uv]\nenvironments = {json.dumps(markers)}\n"
    (work_dir / "pyproject.toml").write_text(project, encoding="utf-8")

    command: list[str | Path] = [uv, "pip", "compile", "--quiet"]
    command += ["--universal", "--python-version", OLDEST_PYTHON]
    command += ["--fork-strategy", "fewest"]  # one release for all Pythons
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--no-annotate", "--custom-compile-command", "make lock"]
    command += [f"--extra={extra}" for extra in lock.extras]
    if lock.like:
        (work_dir / "like.txt").write_text("\n".join(pins(lock.like)), encoding="utf-8")
        command += ["--constraint", "like.txt"]
    command += ["--output-file", lock.file, *sys.argv[1:]]
    command += ["pyproject.toml", *([DEVELOPMENT] if lock.has_tools else [])]
    # The machine's own settings of uv (indexes, find-links) must not reach the lock.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    subprocess.run(command, check=True, cwd=work_dir, env=environ)

    # uv writes those platforms behind every pin; only what differs from them is worth reading,
    # and on any other platform pip should fail rather than install nothing.
    text = lock.file.read_text(encoding="utf-8")
    (common, _), *_ = Counter(re.findall(r" ; .+(?= \\$)", text, re.MULTILINE)).most_common(1)
    lock.file.write_text(text.replace(f"{common} \\\n", " \\\n"), encoding="utf-8")


if __name__ == "__main__":
    main()
