"""How far a transfer is, told on standard error and nowhere else."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from skipper.cli import transfers
from skipper.cli.transfers import ShownFile, ShownSource, transfer


def test_a_long_transfer_tells_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with transfer("a.tar", 4 << 20) as at:
        at(1 << 20)
        assert capsys.readouterr().err == "", "a short one says nothing"
        monkeypatch.setattr(transfers, "_EVERY_S", 0.0)
        at(2 << 20)
    with transfer("b.tar", None) as at:
        at(1 << 20)
    shown = capsys.readouterr()
    assert shown.err == "a.tar: 2.0 MiB of 4.0 MiB\nb.tar: 1.0 MiB\n"
    assert shown.out == ""


def test_a_terminal_is_shown_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transfers, "wants_animation", lambda _: True)
    with transfer("a.tar", 4 << 20) as at:
        at(4 << 20)
    assert "4.0/4.0 MiB" in capsys.readouterr().err


def break_off(file: ShownFile) -> None:
    with file:
        file.write(b"abc")
        raise OSError("lost")


def test_a_file_is_there_once_it_is_whole_and_begins_anew(tmp_path: Path) -> None:
    counts: list[int] = []
    file = ShownFile(tmp_path / "a.tar", counts.append)
    with pytest.raises(OSError, match="lost"):
        break_off(file)
    assert not file.is_begun
    assert list(tmp_path.iterdir()) == []
    with file:
        file.write(b"ab")
        file.write(b"cd")
    assert (tmp_path / "a.tar").read_bytes() == b"abcd"
    assert counts == [3, 2, 4]


def test_what_is_sent_is_shown_as_it_is_read() -> None:
    counts: list[int] = []
    source = ShownSource(io.BytesIO(b"abcd"), counts.append)
    assert (source.read(3), source.read(3)) == (b"abc", b"d")
    source.seek(0)
    assert source.read(2) == b"ab"
    assert counts == [3, 4, 2]
