"""What a host keeps of the files that it serves, for the one that comes next."""

import logging
import stat
from pathlib import Path

import pytest

from skipper.instance.jobs import ModuleText
from skipper.pool.last_good import GoodFile, LastGood
from tests.unit.pool.played import source_of


def good(name: str, text: bytes = b"x = 1\n") -> GoodFile:
    texts = (ModuleText(name=f"functions.{name}", file=Path(f"/{name}.py"), text=text),)
    return GoodFile(source=source_of(name), texts=texts)


def test_the_newest_text_is_found(tmp_path: Path) -> None:
    kept = LastGood(tmp_path / "cpu")
    kept.keep(good("a"))
    kept.keep(good("a", b"\xff\0"))
    assert LastGood(tmp_path / "cpu").find("a") == good("a", b"\xff\0")


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a\0b", "ä" * 300])
def test_a_name_leads_to_no_file_elsewhere(tmp_path: Path, name: str) -> None:
    kept = LastGood(tmp_path / "cpu")
    kept.keep(good(name))
    assert kept.find(name) == good(name)
    assert [file.parent for file in tmp_path.rglob("*.json")] == [tmp_path / "cpu"]


def test_it_is_this_users_alone(tmp_path: Path) -> None:
    LastGood(tmp_path / "cpu").keep(good("a"))
    (file,) = tmp_path.rglob("*.json")
    assert [stat.S_IMODE(each.stat().st_mode) for each in (file, file.parent)] == [0o600, 0o700]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"source": 1}'])
def test_what_cannot_be_read_was_never_good(tmp_path: Path, text: bytes) -> None:
    kept = LastGood(tmp_path)
    kept.keep(good("a"))
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(text)
    assert kept.find("a") is None


def test_what_was_dropped_is_not_found(tmp_path: Path) -> None:
    kept = LastGood(tmp_path)
    kept.keep(good("a"))
    kept.drop("a")
    kept.drop("a")
    assert kept.find("a") is None


def test_a_folder_that_cannot_be_written_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cpu").write_text("a file")
    with caplog.at_level(logging.WARNING):
        LastGood(tmp_path / "cpu").keep(good("a"))
    assert "the good text of" in caplog.text
