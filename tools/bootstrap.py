"""Make .venv hold exactly what the lock says, with this project in it: `make setup`.

Any python3 from 3.8 on starts this file; it needs the standard library alone. It looks for a Python
that Skipper supports, makes one virtual environment, installs the lock of this machine and then the
project itself, editable. The stamp in .venv is written last and records what the environment was
made from: while it holds nothing is done, and an environment without a stamp is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "skipper-stamp.json"
SPARE_TEMP = VENV / "tmp"

OLDEST, NEWEST = (3, 11), (3, 13)
OLDEST_PIP = 23
DISTRIBUTION = "skipper-runtime"
FORMER_NAMES = ("skipper",)  # what earlier versions of pyproject.toml called it
PLATFORMS = (("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"))
DISK_GB = 3.0  # .venv takes 1.8 with tensorflow-cpu, and pip's copies of the downloads the rest
TEMP_GB = 1.5  # pip keeps all downloads there until it has installed them
SIGN_OF_LIFE_S = 15


class SetupError(Exception):
    """Set-up cannot go on; the message is the one sentence that whoever typed make reads."""


def main() -> int:
    """Set up what is not set up; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not is_ready():
            check_platform()
            with one_at_a_time():
                if not is_ready():  # the run that was waited for may have done it
                    set_up()
    except (SetupError, OSError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; the next run repairs .venv", file=sys.stderr)
        return 130
    return 0


def is_ready() -> bool:
    """Whether .venv stands where it was made and holds what the lock and pyproject.toml say."""
    return read_stamp() == wanted_stamp()


def set_up() -> None:
    """Make .venv, or bring one that only lags behind the lock up to date."""
    started = time.monotonic()
    have, want = read_stamp(), wanted_stamp()
    lock = lock_file(want["variant"])
    changed = [key for key in want if have.get(key) != want[key]]
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        STAMP.unlink()

    # Without a stamp an install was cut short, and nobody knows which of its files are whole.
    make_anew = not have or not {"path", "python", "variant"}.isdisjoint(changed)
    if make_anew:
        if have:
            say(f"making .venv anew; it has another {', '.join(changed)}")
        make_venv()
        want = wanted_stamp()
    if make_anew or "lock" in changed:
        say(f"installing {lock.relative_to(ROOT)}; the first time takes a few minutes")
        install(VENV, lock)
        remove_strays(lock)
        compile_all(VENV)
    else:
        remove_former_names()
    say("installing skipper itself, editable")
    install_project(VENV)

    shutil.rmtree(SPARE_TEMP, ignore_errors=True)
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text(json.dumps(want, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(STAMP)
    say(f"ready after {time.monotonic() - started:.0f} s")
    tell_of_gpu(lock)


# --- what is there, and what should be -----------------------------------------------------------


def read_stamp() -> dict[str, str]:
    """What the finished .venv was made from; empty where there is none."""
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def wanted_stamp() -> dict[str, str]:
    """What .venv, with the Python that is in it now, has to be made from."""
    in_venv = probe(python_of(VENV))
    variant = tensorflow_variant()
    return {
        "path": str(VENV),
        "python": in_venv.version if in_venv else "",
        "variant": variant,
        "lock": hashlib.sha256(lock_file(variant).read_bytes()).hexdigest(),
        "project": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
        "version": skipper_version(),
    }


def skipper_version() -> str:
    """The version in the one place where it is written; empty where it cannot be found."""
    text = (ROOT / "runtime" / "skipper" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return found.group(1) if found else ""


def tensorflow_variant() -> str:
    """tensorflow-cpu, half as large, where it exists and there is no NVIDIA driver."""
    on_linux_x86_64 = (platform.system(), platform.machine()) == ("Linux", "x86_64")
    return "tensorflow-cpu" if on_linux_x86_64 and not shutil.which("nvidia-smi") else "tensorflow"


def lock_file(variant: str) -> Path:
    """The lock that holds this TensorFlow."""
    return ROOT / "requirements" / f"lock-{variant}.txt"


# --- the machine ---------------------------------------------------------------------------------


def check_platform() -> None:
    """Refuse a system that the locked packages were not built for."""
    here = (platform.system(), platform.machine())
    if here not in PLATFORMS:
        known = ", ".join(" ".join(each) for each in PLATFORMS)
        raise SetupError(f"this is {' '.join(here)}; the locked packages exist for {known}.")
    if here[0] == "Linux" and platform.libc_ver()[0] != "glibc":
        raise SetupError("this Linux has no glibc; the locked packages need glibc 2.28 or newer.")


def check_disk() -> None:
    """Refuse an install that would fail half-way through a long download."""
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < DISK_GB:
        raise SetupError(f"{free_gb:.1f} GB are free where {ROOT} is; .venv needs {DISK_GB:.0f}.")


class Python:
    """What a Python said about itself when it was run."""

    def __init__(self, version: str, executable: str, has_venv: str) -> None:
        self.version = version
        self.executable = executable
        self.has_venv = has_venv == "True"

    @property
    def minor(self) -> tuple[int, ...]:
        """3.11.7 as (3, 11)."""
        return tuple(int(part) for part in self.version.split(".")[:2])

    def __str__(self) -> str:
        return f"{self.version} ({self.executable})"


def probe(python: str | Path) -> Python | None:
    """Run a Python to learn what it is; None if it does not run, as a shim of pyenv's may not."""
    code = (
        "import sys, importlib.util as util\n"
        "print('.'.join(map(str, sys.version_info[:3])))\n"
        "print(sys.executable)\n"
        "print(all(util.find_spec(name) for name in ('venv', 'ensurepip')))\n"
    )
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", code], capture_output=True, text=True, timeout=20, check=True
        )
        return Python(*done.stdout.splitlines())
    except (OSError, TypeError, subprocess.SubprocessError):
        return None


def find_python() -> Python:
    """A Python that Skipper supports and that can make virtual environments."""
    found = [python for python in map(probe, python_candidates()) if python]
    fitting = [python for python in found if OLDEST <= python.minor <= NEWEST]
    for python in fitting:
        if python.has_venv:
            return python
    if fitting:
        package = "python{}.{}-venv".format(*fitting[0].minor)
        raise SetupError(
            f"Python {fitting[0]} has no module ensurepip to make .venv with;"
            f" on Debian and Ubuntu: apt-get install {package}"
        )
    there = ", ".join(dict.fromkeys(map(str, found))) or "none that runs"
    raise SetupError(
        "Python {}.{} to {}.{} is needed".format(*OLDEST, *NEWEST)
        + f" and here is {there}; install one, or name it: make setup PYTHON=/path/to/python3.11"
    )


def python_candidates() -> Iterator[str]:
    """Where to look: $PYTHON alone if it is set; else everywhere."""
    if os.environ.get("PYTHON"):
        yield os.environ["PYTHON"]
    else:
        yield from pythons_here()


def pythons_here() -> Iterator[str]:
    """What runs this file, then the PATH, then what pyenv has and its shims may not run."""
    # Not sys.executable: in an activated environment that may be the very .venv to be replaced.
    yield getattr(sys, "_base_executable", None) or sys.executable
    for name in ("python3.11", "python3.12", "python3.13", "python3", "python"):
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            path = Path(folder or ".", name)
            if os.access(path, os.X_OK) and VENV not in path.parents:
                yield str(path)
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        yield from map(str, sorted(versions.glob(f"3.{minor}.*/bin/python")))


# --- the environment -----------------------------------------------------------------------------


def make_venv() -> None:
    """Put an empty environment in place of whatever environment stands there."""
    python = find_python()
    if VENV.is_symlink() or (VENV.exists() and not is_disposable(VENV)):
        raise SetupError(f"{VENV} is not a virtual environment of this project; move it away.")
    if VENV.exists():
        say("removing the old .venv")
        shutil.rmtree(VENV)
    check_disk()
    say(f"making .venv with Python {python}")
    run(python.executable, "-m", "venv", VENV)


def is_disposable(path: Path) -> bool:
    """Whether a path is a virtual environment, or the beginning of one."""
    return path.is_dir() and ((path / "pyvenv.cfg").is_file() or not any(path.iterdir()))


def install(venv: Path, lock: Path, *options: str) -> None:
    """Install every pin of the lock by its hash: with uv where there is one, else with pip."""
    exactly: tuple[str | Path, ...] = (
        *options,
        "--no-deps",
        "--require-hashes",
        "--requirement",
        lock,
    )
    uv = shutil.which("uv")
    if uv:
        try:
            run(uv, "pip", "install", "--python", python_of(venv), *exactly)
            return
        except SetupError:
            # It reads neither pip's configuration nor, by default, the system's certificates.
            say("uv could not install it; once more with pip")
    renew_pip(venv)
    pip_install(venv, *exactly)


def install_project(venv: Path) -> None:
    """Install the project itself, editable: its files stay where they are."""
    pip_install(venv, "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)


def renew_pip(venv: Path) -> None:
    """Bring pip up to the release that installs the lock, where Python came with an older one."""
    done = subprocess.run(
        [str(python_of(venv)), "-m", "pip", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.match(r"pip (\d+)\S*", done.stdout)
    if found and int(found.group(1)) < OLDEST_PIP:
        say(f"{found.group()} is older than {OLDEST_PIP}; renewing it")
        pip_install(venv, "--quiet", "--upgrade", f"pip>={OLDEST_PIP}")


def tell_of_gpu(lock: Path) -> None:
    """Say what TensorFlow needs to compute on an NVIDIA GPU: more than the lock holds, 4 GB."""
    pin = re.search(r"^tensorflow==([\w.]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    if pin and shutil.which("nvidia-smi"):
        say("there is an NVIDIA driver; to have TensorFlow compute on the GPU, add its libraries:")
        say(f"  .venv/bin/pip install 'tensorflow[and-cuda]=={pin.group(1)}'")


def remove_strays(lock: Path) -> None:
    """Remove what an older lock had and this one has not."""
    pins = re.findall(r"^([\w.-]+)==", lock.read_text(encoding="utf-8"), re.MULTILINE)
    kept = {normal(pin) for pin in pins} | {"pip", "setuptools", DISTRIBUTION}
    uninstall(sorted(installed() - kept), "not in the lock")


def remove_former_names() -> None:
    """Remove this project as an earlier version installed it, or both would be found as plugins."""
    uninstall(sorted(installed().intersection(FORMER_NAMES)), f"now {DISTRIBUTION}")


def installed() -> set[str]:
    """The names of the distributions in .venv, each in its one spelling."""
    folders = VENV.glob("lib/python*/site-packages/*.dist-info")
    return {normal(folder.name.split("-")[0]) for folder in folders}


def uninstall(names: list[str], why: str) -> None:
    """Remove distributions, if there are any to remove."""
    if names:
        say(f"removing {', '.join(names)}: {why}")
        run(python_of(VENV), "-m", "pip", "uninstall", "--quiet", "--yes", *names)


def compile_all(venv: Path) -> None:
    """Compile what was installed, on all cores: nobody's first import should have to."""
    say("compiling what was installed")
    with contextlib.suppress(SetupError):  # a template in some package may not be valid Python
        run(python_of(venv), "-m", "compileall", "-qq", "-j", "0", "-x", "/tests?/", venv / "lib")


def normal(name: str) -> str:
    """A distribution's name in the one spelling that all spellings share."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pip_install(venv: Path, *arguments: str | Path) -> None:
    """Install with pip, without its compiling: :func:`compile_all` does not take one core only."""
    run(python_of(venv), "-m", "pip", "install", "--no-compile", *arguments)


def python_of(venv: Path) -> Path:
    """The Python of a virtual environment."""
    return venv / "bin" / "python"


# --- doing and telling ---------------------------------------------------------------------------


def run(*command: str | Path) -> None:
    """Run a command to its end, with a sign of life where nobody sees its progress bar."""
    environ = {
        "PIP_DEFAULT_TIMEOUT": "60",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        **os.environ,
    }
    # The temporary folder may be a small one in memory: then unpack where .venv is.
    if VENV.is_dir() and shutil.disk_usage(tempfile.gettempdir()).free / 1e9 < TEMP_GB:
        SPARE_TEMP.mkdir(exist_ok=True)
        environ["TMPDIR"] = str(SPARE_TEMP)
    started = time.monotonic()
    # It inherits the handle of `one_at_a_time`: no second set-up while it lives, whoever dies.
    with subprocess.Popen([str(part) for part in command], env=environ, close_fds=False) as process:
        try:
            while process.poll() is None:
                try:
                    process.wait(timeout=SIGN_OF_LIFE_S)
                except subprocess.TimeoutExpired:
                    if not sys.stdout.isatty():
                        say(f"still working, {time.monotonic() - started:.0f} s")
        except KeyboardInterrupt:
            process.terminate()
            raise
    if process.returncode:
        line = " ".join(str(part) for part in command)
        raise SetupError(f"exit code {process.returncode} of: {line}")


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold off other runs of this file in this checkout, while this one and its children live."""
    import fcntl  # not on Windows, which `check_platform` has turned away

    with Path(__file__).open("rb") as handle:
        os.set_inheritable(handle.fileno(), True)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is under way in this checkout; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def say(line: str) -> None:
    """Tell whoever waits what is being done."""
    print(f"setup: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
