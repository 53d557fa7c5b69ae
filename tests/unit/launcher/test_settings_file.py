"""A change of ``skipper.toml`` while its tree runs is told once, and without values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skipper.launcher.settings_file import SettingsFile
from skipper.settings.loading import load

START = """
[gateway]
port = 8001

[plugins.vault]
token = "SESAME-1"
"""
HOOK = """
[webhooks.ops]
url = "https://h.example"
secret = "whsec_SESAMESESAMESESAMESESAMESESAMESESAMESESA"
"""


class Followed:
    """A project's file as the launcher follows it, and what it logs."""

    def __init__(self, folder: Path) -> None:
        self._path, self._saves = folder / "skipper.toml", 0
        self._path.write_text(START)
        settings, _ = load(folder, self.flags)
        self.lines: list[str] = []
        self._file = SettingsFile(settings, lambda: load(folder, self.flags)[0], self._log)

    flags = {"log.format": "json"}  # noqa: RUF012 - nobody writes to it

    def _log(self, level: str, message: str) -> None:
        self.lines.append(f"{level} {message}")

    def save(self, text: str | None) -> list[str]:
        """Save the file, or remove it; the lines that are logged for that."""
        if text is None:
            self._path.unlink()
        else:
            self._path.write_text(text)
            self._saves += 1
            os.utime(self._path, (self._saves, self._saves))
        return self.after_looks()

    def after_looks(self) -> list[str]:
        self.lines.clear()
        for _ in range(4):
            self._file.look()
        return list(self.lines)

    def look(self) -> None:
        self._file.look()


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (START.replace("8001", "8002"), "gateway.port"),
        (START.replace("SESAME-1", "SESAME-2"), "plugins.vault.token"),
        (START + "more = 1", "plugins.vault.more"),
        (START.replace('token = "SESAME-1"', ""), "plugins.vault.token"),
        (START + "[models.boston]\npromote = 'manual'", ": models.boston."),
        (START + "[pools.big]\nqueue = 2", ": pools.big."),
        (START + HOOK, ": webhooks.ops."),
        (START.replace("8001", "8002") + "[log]\nlevel = 'debug'", "gateway.port, log.level."),
    ],
)
def test_each_setting_that_has_changed_is_named_once_and_its_value_is_not(
    followed: Followed, text: str, names: str
) -> None:
    (line,) = followed.save(text)
    assert line.startswith("warning skipper.toml has changed: ")
    assert names in line
    assert "`skipper down && skipper up`" in line
    assert "SESAME" not in line
    assert followed.after_looks() == []
    assert followed.save(text + "\n# no other settings") == []


def test_a_second_edit_names_what_it_has_changed(followed: Followed) -> None:
    edited = START.replace("8001", "8002")
    followed.save(edited)
    (line,) = followed.save(edited.replace("SESAME-1", "SESAME-2"))
    assert "changed: plugins.vault.token." in line


def test_what_is_as_it_was_is_told_too(followed: Followed) -> None:
    edited = START.replace("8001", "8002")
    followed.save(edited.replace("SESAME-1", "SESAME-2"))
    (line,) = followed.save(edited)
    assert line == "info skipper.toml still differs from what this tree runs with in: gateway.port"
    assert followed.save(START) == ["info skipper.toml says again what this tree was started with."]


def test_a_file_that_is_removed_sets_nothing(followed: Followed) -> None:
    (line,) = followed.save(None)
    assert "gateway.port, plugins.vault." in line


def test_what_a_flag_sets_does_not_change_with_the_file(followed: Followed) -> None:
    assert followed.save(START + "[log]\nformat = 'pretty'") == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[gateway]\nport 3", "line 2"),
        ("[gateway]\nport = 'SESAME'", "skipper.toml:2: gateway.port"),
        ("\n[gateway]\nprot = 3", "skipper.toml:3: no setting 'gateway.prot'"),
        ("[models.boston]\npromote = 'never'", "skipper.toml:2: models.boston.promote"),
    ],
)
def test_a_broken_file_is_told_once_with_its_line_and_changes_nothing(
    followed: Followed, text: str, place: str
) -> None:
    (line,) = followed.save(text)
    assert line.startswith("error ")
    assert place in line
    assert "runs on with the settings that it has" in line
    assert followed.save(text + "\n") == []
    assert followed.save(START) == []


def test_a_file_is_read_once_it_stays_the_same(followed: Followed, tmp_path: Path) -> None:
    file = tmp_path / "skipper.toml"
    for size in range(3):
        file.write_text(START + "#" * (size + 1) + "\nhalf")
        followed.look()
    assert followed.lines == []
    assert followed.save(START) == []
