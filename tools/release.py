"""Build the wheel and the sdist, and try the wheel where nothing else is: `make release`.

Both lie in dist/ afterwards. The wheel must hold the runtime and the plugins, whole and nothing
else; the sdist must hold what git knows, and build that same wheel. Then the wheel is installed
into a fresh environment beside the lock of its plain dependencies, and a project that has one
function is started, called over REST and stopped there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from tools import bootstrap

ROOT = bootstrap.ROOT
DIST = ROOT / "dist"
SOURCES = (ROOT / "runtime", ROOT / "plugins")
LIMIT_S = 300.0
FUNCTION = """\
import skipper


@skipper.inference
def greet(name: str) -> str:
    return f"Hello, {name}!"
"""


class ReleaseError(Exception):
    """The release is not good; the message says what is wrong with it."""


def main() -> int:
    """Build, check and try; the exit code."""
    try:
        shutil.rmtree(DIST, ignore_errors=True)
        wheel, sdist = build(ROOT, DIST, "wheel"), build(ROOT, DIST, "sdist")
        with tempfile.TemporaryDirectory(prefix="skipper-release-") as folder:
            check(wheel, sdist, Path(folder))
            try_out(wheel, Path(folder))
    except (ReleaseError, bootstrap.SetupError) as error:
        report(f"not good: {error}")
        return 1
    report(f"good: {wheel.relative_to(ROOT)}, {sdist.relative_to(ROOT)}")
    return 0


# --- what is built -------------------------------------------------------------------------------


def build(source: Path, target: Path, kind: str) -> Path:
    """Build the ``wheel`` or the ``sdist`` of the project in ``source``; the file."""
    report(f"building the {kind}")
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    built = sorted(target.glob({"wheel": "*.whl", "sdist": "*.tar.gz"}[kind]))
    if done.returncode or len(built) != 1:
        raise ReleaseError(f"the {kind} cannot be built:\n{done.stdout}{done.stderr}")
    return built[0]


def check(wheel: Path, sdist: Path, folder: Path) -> None:
    """Raise :class:`ReleaseError` unless both hold what they should and nothing else."""
    found = wheel_files(wheel)
    compare("the wheel", found, sources())
    known = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    with tarfile.open(sdist) as archive:
        members = [PurePosixPath(each.name) for each in archive if each.isfile()]
        archive.extractall(folder / "sdist", filter="data")
    (unpacked,) = (folder / "sdist").iterdir()
    held = {str(member.relative_to(unpacked.name)) for member in members}
    compare("the sdist", held - {"PKG-INFO"}, known)
    again = build(unpacked, folder / "again", "wheel")
    if again.read_bytes() != wheel.read_bytes():
        raise ReleaseError("the wheel that the sdist builds is another one")


def sources() -> set[str]:
    """The files of the runtime and the plugins, as a wheel names them."""
    return {
        str(file.relative_to(folder))
        for folder in SOURCES
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def wheel_files(wheel: Path) -> set[str]:
    """The files of a wheel, without those on itself."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def compare(what: str, found: Collection[str], wanted: Collection[str]) -> None:
    """Raise :class:`ReleaseError` where ``what`` lacks a file or has one too many."""
    missing, odd = sorted({*wanted} - {*found}), sorted({*found} - {*wanted})
    if missing:
        raise ReleaseError(f"{what} lacks {', '.join(missing)}")
    if odd:
        raise ReleaseError(f"{what} holds {', '.join(odd)}")


# --- how it does where nothing else is -----------------------------------------------------------


def try_out(wheel: Path, folder: Path) -> None:
    """Install the wheel into a fresh environment, and have it serve a function from there."""
    venv, project = folder / "venv", folder / "project"
    report("making a fresh environment")
    bootstrap.run(sys.executable, "-m", "venv", venv)
    bootstrap.install(venv, bootstrap.lock_file("core"), "--quiet")
    bootstrap.pip_install(venv, "--quiet", "--no-deps", "--no-index", wheel)
    (project / "functions").mkdir(parents=True)
    (project / "skipper.toml").touch()
    (project / "functions" / "hello.py").write_text(FUNCTION, encoding="utf-8")

    report("starting a project in it")
    port = free_port()
    skipper = Skipper(venv, project)
    try:
        skipper("up", "--detach", "--port", str(port))
        answer = post(port, "hello.greet", {"name": "release"})
        if answer != "Hello, release!":
            raise ReleaseError(f"hello.greet answered {answer!r}")
        broken = json.loads(skipper("functions", "list", "--json"))["broken"]
        if broken:
            raise ReleaseError(f"broken in a new project: {broken}")
        skipper("down")
    finally:
        with contextlib.suppress(ReleaseError):
            skipper("down", "--kill")


class Skipper:
    """The command of an environment, run in a project, with nothing of this checkout about it."""

    def __init__(self, venv: Path, project: Path) -> None:
        self._command, self._project = venv / "bin" / "skipper", project
        self._environment = clean(os.environ)

    def __call__(self, *arguments: str) -> str:
        """Run a verb; what it writes. Raises :class:`ReleaseError` where it fails."""
        done = subprocess.run(
            [self._command, *arguments],
            cwd=self._project,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        if done.returncode:
            line = " ".join(("skipper", *arguments))
            raise ReleaseError(f"`{line}` exits {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment that points to no other Python and sets nothing of Skipper's."""
    ours = ("SKIPPER_", "PYTHON", "VIRTUAL_ENV")
    return {name: text for name, text in environment.items() if not name.startswith(ours)}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(port: int, function: str, body: object) -> object:
    """Call a function over REST; its value."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/functions/{function}/invoke",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def report(line: str) -> None:
    """Show whoever waits what is being done."""
    print(f"release: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
