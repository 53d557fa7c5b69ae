"""What set-up decides: which Python, which lock, and whether there is anything to do."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import bootstrap
from tools.bootstrap import SetupError

VERSION = ".".join(map(str, sys.version_info[:3]))


class Checkout:
    """A checkout with locks, whose set-up runs no command: it notes which it would have run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.venv = folder, folder / ".venv"
        self.ran: list[str] = []
        self.fails_at = ""
        (folder / "requirements").mkdir()
        (folder / "pyproject.toml").write_text("[project]\n")
        self.version = folder / "runtime" / "skipper" / "__init__.py"
        self.version.parent.mkdir(parents=True)
        self.version.write_text('__version__ = "0.1.0"\n')
        for variant in ("tensorflow", "tensorflow-cpu"):
            self.lock(variant).write_text(f"{variant}==2.21.0 \\\n")

    def lock(self, variant: str) -> Path:
        return self.folder / "requirements" / f"lock-{variant}.txt"

    def run(self, *command: str | Path) -> None:
        """Stands in for running a command."""
        line = " ".join(map(str, command))
        self.ran.append(line)
        if self.fails_at and self.fails_at in line:
            raise KeyboardInterrupt
        if " -m venv " in line:
            (self.venv / "bin").mkdir(parents=True)
            (self.venv / "pyvenv.cfg").touch()
            (self.venv / "bin" / "python").symlink_to(sys.executable)

    def set_up(self) -> list[str]:
        """What a set-up runs, by the words that tell the steps apart."""
        self.ran.clear()
        bootstrap.set_up()
        steps = ("-m venv", "--require-hashes", "uninstall", "compileall", "--editable")
        return [step for line in self.ran for step in steps if step in line]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    made = Checkout(tmp_path)
    places = {
        "ROOT": tmp_path,
        "VENV": made.venv,
        "STAMP": made.venv / "skipper-stamp.json",
        "SPARE_TEMP": made.venv / "tmp",
    }
    for name, place in places.items():
        monkeypatch.setattr(bootstrap, name, place)
    monkeypatch.setattr(bootstrap, "run", made.run)
    monkeypatch.setattr(bootstrap, "check_disk", lambda: None)
    monkeypatch.setenv("PYTHON", sys.executable)
    return made


EVERYTHING = ["-m venv", "--require-hashes", "compileall", "--editable"]


def test_a_fresh_checkout_is_set_up_once(checkout: Checkout) -> None:
    assert not bootstrap.is_ready()
    assert checkout.set_up() == EVERYTHING
    assert bootstrap.is_ready()


@pytest.mark.parametrize("step", ["--require-hashes", "compileall", "--editable"])
def test_what_was_interrupted_is_made_anew(checkout: Checkout, step: str) -> None:
    checkout.fails_at = step
    with pytest.raises(KeyboardInterrupt):
        checkout.set_up()
    assert not bootstrap.is_ready()
    checkout.fails_at = ""
    assert checkout.set_up() == EVERYTHING
    assert bootstrap.is_ready()


def test_an_interrupted_update_does_not_pass_for_a_finished_one(checkout: Checkout) -> None:
    checkout.set_up()
    for lock in checkout.folder.glob("requirements/*"):
        lock.write_text(lock.read_text() + "keras==3.0 \\\n")
    checkout.fails_at = "--require-hashes"
    with pytest.raises(KeyboardInterrupt):
        checkout.set_up()
    checkout.fails_at = ""
    assert checkout.set_up() == EVERYTHING


def test_another_lock_is_followed_in_place(checkout: Checkout) -> None:
    checkout.set_up()
    for lock in checkout.folder.glob("requirements/*"):
        lock.write_text(lock.read_text() + "keras==3.0 \\\n")
    (checkout.venv / "lib/python3/site-packages/gone-1.0.dist-info").mkdir(parents=True)
    assert not bootstrap.is_ready()
    assert checkout.set_up() == ["--require-hashes", "uninstall", "compileall", "--editable"]
    assert any(line.endswith("--yes gone") for line in checkout.ran)
    assert bootstrap.is_ready()


def test_another_project_file_only_installs_the_project_again(checkout: Checkout) -> None:
    checkout.set_up()
    (checkout.folder / "pyproject.toml").write_text("[project]\nname = 'skipper-runtime'\n")
    assert checkout.set_up() == ["--editable"]


def test_another_version_is_installed(checkout: Checkout) -> None:
    checkout.set_up()
    checkout.version.write_text('__version__ = "0.2.0"\n')
    assert checkout.set_up() == ["--editable"]
    assert bootstrap.is_ready()


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements"])
def test_what_the_project_was_called_before_is_removed_first(
    checkout: Checkout, changed: str
) -> None:
    checkout.set_up()
    packages = checkout.venv / "lib/python3/site-packages"
    for name in ("skipper-0.1.0", "skipper_runtime-0.1.0", "tensorflow-2.21.0"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
    for file in (checkout.folder / changed, *checkout.folder.glob(f"{changed}/*")):
        if file.is_file():
            file.write_text(file.read_text() + "tensorflow==2.21.0\n")
    steps = checkout.set_up()
    assert steps.index("uninstall") < steps.index("--editable")
    removed = [line.partition("--yes ")[2] for line in checkout.ran if "uninstall" in line]
    assert removed == ["skipper"]


def test_an_environment_that_was_moved_is_made_anew(checkout: Checkout) -> None:
    checkout.set_up()
    stamp = bootstrap.STAMP
    stamp.write_text(stamp.read_text().replace(str(checkout.venv), "/elsewhere/.venv"))
    assert checkout.set_up() == EVERYTHING


def test_a_folder_of_somebody_elses_is_left_alone(checkout: Checkout) -> None:
    checkout.venv.mkdir()
    (checkout.venv / "thesis.txt").touch()
    with pytest.raises(SetupError, match="move it away"):
        checkout.set_up()
    assert (checkout.venv / "thesis.txt").exists()


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "3"])
def test_a_damaged_stamp_is_none(checkout: Checkout, text: str) -> None:
    checkout.venv.mkdir()
    bootstrap.STAMP.write_text(text)
    assert not bootstrap.is_ready()


# --- which TensorFlow, which pip -----------------------------------------------------------------


def tool(folder: Path, name: str, prints: str = "") -> Path:
    """A program that prints this."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{prints}'\n")
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(
    ("system", "machine", "has_driver", "variant"),
    [
        ("Linux", "x86_64", False, "tensorflow-cpu"),
        ("Linux", "x86_64", True, "tensorflow"),
        ("Linux", "aarch64", False, "tensorflow"),
        ("Darwin", "arm64", False, "tensorflow"),
    ],
)
def test_the_small_tensorflow_is_taken_where_it_fits(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, has_driver: bool, variant: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/nvidia-smi" if has_driver else None)
    assert bootstrap.tensorflow_variant() == variant


def test_with_a_driver_it_is_told_how_to_compute_on_the_gpu(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tool(checkout.folder / "bin", "nvidia-smi").parent))
    bootstrap.tell_of_gpu(checkout.lock("tensorflow"))
    told = capsys.readouterr().out
    assert ".venv/bin/pip install 'tensorflow[and-cuda]==2.21.0'" in told
    monkeypatch.setenv("PATH", "")
    bootstrap.tell_of_gpu(checkout.lock("tensorflow"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("version", "is_renewed"), [("22.3.1", True), ("23.0", False), ("9.0.1", True), ("101", False)]
)
def test_a_pip_that_is_too_old_is_renewed(
    checkout: Checkout, version: str, is_renewed: bool
) -> None:
    tool(checkout.folder / "bin", "python", f"pip {version} from /somewhere (python 3.11)")
    bootstrap.renew_pip(checkout.folder)
    assert [line.endswith("--upgrade pip>=23") for line in checkout.ran] == [True] * is_renewed


# --- which Python --------------------------------------------------------------------------------


def test_a_python_that_is_named_is_the_only_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON", "/opt/python3.12")
    assert list(bootstrap.python_candidates()) == ["/opt/python3.12"]


def test_else_it_is_what_runs_this_then_the_path_without_the_environment_itself_then_pyenvs(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = checkout.folder / "pyenv" / "versions"
    for version in ("3.9.1", "3.12.1", "3.11.7"):
        (versions / version).mkdir(parents=True)
        tool(versions / version / "bin", "python")
    monkeypatch.setenv("PYENV_ROOT", str(versions.parent))
    found = tool(checkout.folder / "bin", "python3.12")
    tool(checkout.folder / "bin", "python3")
    (checkout.venv / "bin").mkdir(parents=True)
    tool(checkout.venv / "bin", "python3.11")
    monkeypatch.delenv("PYTHON")
    monkeypatch.setenv("PATH", f"{checkout.venv / 'bin'}:{found.parent}")
    first, *rest = bootstrap.python_candidates()
    assert Path(first).resolve() == Path(sys.executable).resolve()
    pyenvs = [str(versions / version / "bin" / "python") for version in ("3.11.7", "3.12.1")]
    assert rest == [str(found), str(found.with_name("python3")), *pyenvs]


def test_a_python_is_asked_what_it_is(tmp_path: Path) -> None:
    asked = bootstrap.probe(sys.executable)
    assert asked is not None
    assert (asked.version, asked.minor) == (VERSION, sys.version_info[:2])
    for nonsense in (tool(tmp_path, "python3", "a shim"), tmp_path / "none"):
        assert bootstrap.probe(nonsense) is None


@pytest.mark.parametrize(
    ("pythons", "expected"),
    [
        ([("3.10.1", True), ("3.12.2", True)], "3.12.2"),
        ([("3.14.0", True)], "Python 3.11 to 3.13 is needed and here is 3.14.0"),
        ([("3.11.2", False)], "apt-get install python3.11-venv"),
        ([("3.11.2", False), ("3.13.0", True)], "3.13.0"),
        ([], "here is none that runs"),
    ],
)
def test_the_first_python_that_fits_is_taken(
    monkeypatch: pytest.MonkeyPatch, pythons: list[tuple[str, bool]], expected: str
) -> None:
    made: Any = [bootstrap.Python(version, "python", str(has)) for version, has in pythons]
    monkeypatch.setattr(bootstrap, "python_candidates", lambda: range(len(made)))
    monkeypatch.setattr(bootstrap, "probe", lambda number: made[number])
    try:
        told = bootstrap.find_python().version
    except SetupError as error:
        told = str(error)
    assert expected in told
