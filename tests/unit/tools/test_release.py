"""What a release is refused for; the wheel of this checkout is built for real."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tools import release
from tools.release import ReleaseError


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release.build(release.ROOT, tmp_path_factory.mktemp("dist"), "wheel")


def test_the_wheel_holds_the_runtime_and_the_plugins_whole_and_nothing_else(wheel: Path) -> None:
    found = release.wheel_files(wheel)
    release.compare("the wheel", found, release.sources())
    assert {"skipper/py.typed", "skipper_tensorflow.py", "skipper_tabular/__init__.py"} <= found
    assert any(name.startswith("skipper/ledger/migrations/ledger/") for name in found)
    assert not any("test" in Path(name).parts[0] or "__pycache__" in name for name in found)


def test_the_wheel_names_its_command_its_plugins_and_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = next(n for n in archive.namelist() if n.endswith("/METADATA")).rpartition("/")[0]
        points = archive.read(f"{folder}/entry_points.txt").decode()
        metadata = archive.read(f"{folder}/METADATA").decode()
        assert f"{folder}/licenses/LICENSE" in archive.namelist()
    assert "skipper = skipper.cli:main" in points
    assert all(
        f"{name} = skipper_{name}" in points for name in ("tabular", "tensorflow", "webhooks")
    )
    assert "Name: skipper-runtime\n" in metadata


def test_building_it_again_makes_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    """Or the wheel that the sdist builds could not be compared with it."""
    assert release.build(release.ROOT, tmp_path, "wheel").read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ({"a", "b"}, None),
        ({"a"}, "the wheel lacks b"),
        ({"a", "b", "tests/x.py"}, "the wheel holds tests/x.py"),
    ],
)
def test_a_file_too_few_or_too_many_is_named(found: set[str], problem: str | None) -> None:
    if problem is None:
        release.compare("the wheel", found, {"a", "b"})
        return
    with pytest.raises(ReleaseError, match=problem):
        release.compare("the wheel", found, {"a", "b"})


def test_what_cannot_be_built_is_reported_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'a'\n")
    with pytest.raises(ReleaseError, match="version"):
        release.build(tmp_path, tmp_path / "dist", "wheel")


def test_the_trial_knows_nothing_of_this_checkout() -> None:
    given = {"PATH": "/bin", "PYTHONPATH": "x", "SKIPPER_URL": "x", "VIRTUAL_ENV": "x", "HOME": "/"}
    assert release.clean(given) == {"PATH": "/bin", "HOME": "/"}


def test_a_verb_that_fails_is_reported_with_its_words(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "skipper"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\necho "out $1"; echo err >&2; exit 9\n')
    command.chmod(0o755)
    with pytest.raises(ReleaseError, match=r"`skipper up --detach` exits 9:\nout up\nerr"):
        release.Skipper(tmp_path, tmp_path)("up", "--detach")
