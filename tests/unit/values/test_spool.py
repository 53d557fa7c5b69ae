"""What is written to the spool is there until somebody removes it, under a name of its own."""

import hashlib
import os
from pathlib import Path

import pytest

from skipper.values.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def test_a_value_is_what_was_put(spool: Spool) -> None:
    name = spool.put(b"ab", bytearray(b"c"), memoryview(b"d"))
    assert bytes(spool.view(name)) == b"abcd"
    assert (spool.folder / name).stat().st_mode & 0o777 == 0o600
    assert (spool.folder / name).parent.stat().st_mode & 0o777 == 0o700


def test_a_view_outlives_its_file_and_cannot_be_changed(spool: Spool) -> None:
    name = spool.put(b"x" * 5000)
    view = spool.view(name)
    spool.remove([name, name, "not a name"])
    assert view.readonly
    assert bytes(view) == b"x" * 5000
    with pytest.raises(FileNotFoundError):
        spool.view(name)


def test_nothing_is_also_a_value(spool: Spool) -> None:
    assert bytes(spool.view(spool.put())) == b""


@pytest.mark.parametrize("name", ["", "..", "../ledger.db", "a" * 31, "/etc/passwd", "A" * 32])
def test_only_names_that_were_made_here_are_looked_up(spool: Spool, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        spool.path(name)


def test_what_raises_or_is_not_kept_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    def breaks_off() -> None:
        with spool.create() as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        breaks_off()
    with spool.create():
        pass
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_hashed_file_knows_what_it_is(spool: Spool, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"y" * (3 << 20))
    with spool.create(is_hashed=True) as file:
        file.copy(source)
        file.kept()
    assert file.digest == hashlib.sha256(source.read_bytes()).hexdigest()
    assert file.size == 3 << 20


def test_what_is_old_is_swept(spool: Spool) -> None:
    old, young = spool.put(b"1"), spool.put(b"2")
    os.utime(spool.folder / old, (1, 1))
    assert spool.sweep(3600) == 1
    assert bytes(spool.view(young)) == b"2"
    assert Spool(Path("/nonexistent/spool")).sweep(1) == 0


@pytest.fixture
def among_others(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", is_among_others=True)


def test_a_folder_among_others_is_made_for_one_user_alone(
    among_others: Spool, tmp_path: Path
) -> None:
    names = [among_others.put(b"a"), among_others.put(b"b")]
    assert [bytes(among_others.view(name)) for name in names] == [b"a", b"b"]
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


def test_nothing_is_written_to_a_folder_that_others_open(
    among_others: Spool, tmp_path: Path
) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o777)
    with pytest.raises(PermissionError, match="set TMPDIR"):
        among_others.put(b"a")
    assert list((tmp_path / "spool").iterdir()) == []


def test_nothing_is_written_to_where_a_link_leads(among_others: Spool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "spool").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="your own"):
        among_others.put(b"a")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_nothing_is_written_to_another_users_folder(
    among_others: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: (tmp_path / "spool").stat().st_uid + 1)
    with pytest.raises(PermissionError, match="your own"):
        among_others.put(b"a")
    assert list((tmp_path / "spool").iterdir()) == []


def test_nothing_is_written_where_a_file_lies(among_others: Spool, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(FileExistsError):
        among_others.put(b"a")
