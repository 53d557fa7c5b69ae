"""Write requirements/lock-*.txt anew: `make lock`.

Each lock pins everything that a checkout needs (core, extras, development tools) with the
hashes of all files of a release, and holds for every platform and Python named below. A current
uv in a throw-away environment resolves it against the public index, so that neither a local
cache of wheels nor a mirror decides what stands in it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINUX_X86_64 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
LINUX_AARCH64 = "sys_platform == 'linux' and platform_machine == 'aarch64'"
MACOS_ARM64 = "sys_platform == 'darwin' and platform_machine == 'arm64'"
MACHINES = {
    "tensorflow-cpu": (LINUX_X86_64,),  # the only platform it has wheels for
    "tensorflow": (LINUX_X86_64, LINUX_AARCH64, MACOS_ARM64),
}
OLDEST_PYTHON = "3.11"
PYTHONS = "python_full_version < '3.14'"  # TensorFlow 2.21 has no wheel for 3.14
EXTRAS = ("postgres", "tabular")


def main() -> None:
    """Resolve every lock; uv gets the arguments of this command (such as --upgrade) too."""
    with tempfile.TemporaryDirectory(prefix="skipper-lock-") as scratch:
        print("installing uv for this one run", file=sys.stderr)
        venv.create(scratch, with_pip=True)
        bin_dir = Path(scratch, "bin")
        subprocess.run([bin_dir / "pip", "install", "--quiet", "uv>=0.9"], check=True)
        for variant in MACHINES:
            print(f"resolving requirements/lock-{variant}.txt", file=sys.stderr)
            resolve(bin_dir / "uv", variant, Path(scratch, variant))


def resolve(uv: Path, variant: str, work_dir: Path) -> None:
    """Write the lock of one TensorFlow `variant`, in a `work_dir` of its own."""
    # uv takes the platforms to resolve for from a pyproject.toml and from nowhere else.
    work_dir.mkdir()
    markers = [f"{machine} and {PYTHONS}" for machine in MACHINES[variant]]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project += f"\n[tool.uv]\nenvironments = {json.dumps(markers)}\n"
    (work_dir / "pyproject.toml").write_text(project, encoding="utf-8")

    command: list[str | Path] = [uv, "pip", "compile", "--quiet"]
    command += ["--universal", "--python-version", OLDEST_PYTHON]
    command += ["--fork-strategy", "fewest"]  # one release for all Pythons
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--no-annotate", "--custom-compile-command", "make lock"]
    command += [f"--extra={extra}" for extra in (variant, *EXTRAS)]
    lock = ROOT / "requirements" / f"lock-{variant}.txt"
    command += ["--output-file", lock, *sys.argv[1:]]
    command += ["pyproject.toml", ROOT / "requirements" / "dev.in"]
    # The machine's own settings of uv (indexes, find-links) must not reach the lock.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    subprocess.run(command, check=True, cwd=work_dir, env=environ)

    # uv writes those platforms behind every pin; only what differs from them is worth reading,
    # and on any other platform pip should fail rather than install nothing.
    text = lock.read_text(encoding="utf-8")
    (common, _), *_ = Counter(re.findall(r" ; .+(?= \\$)", text, re.MULTILINE)).most_common(1)
    lock.write_text(text.replace(f"{common} \\\n", " \\\n"), encoding="utf-8")


if __name__ == "__main__":
    main()
