"""Where a value goes is decided by what it is and by where standard output leads."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import typer

from skipper.cli.results import show_result, wanted
from skipper.client.messages import Reply


class Screen(io.TextIOWrapper):
    """Standard output, of a terminal or not."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), "utf-8", write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def shown(self) -> bytes:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


def reply(kind: str, content: bytes) -> Reply:
    return Reply(status=200, headers={"content-type": kind}, content=content)


def shown(
    monkeypatch: pytest.MonkeyPatch, answer: Reply, output: str | None, *, is_terminal: bool
) -> bytes:
    screen = Screen(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stdout", screen)
    show_result(answer, output)
    return screen.shown()


PICTURE = b"\x89PNG\r\n\x1b[2J\xff"


def test_json_is_printed_and_all_else_goes_to_a_pipe_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    json = reply("application/json", b'{"a":1}')
    assert shown(monkeypatch, json, None, is_terminal=False) == b'{"a": 1}\n'
    picture = reply("image/png", PICTURE)
    assert shown(monkeypatch, picture, None, is_terminal=False) == PICTURE
    assert shown(monkeypatch, picture, "-", is_terminal=True) == PICTURE
    assert shown(monkeypatch, json, "-", is_terminal=True) == b'{"a":1}'


def test_what_is_no_text_is_not_spilled_over_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        shown(monkeypatch, reply("image/png", PICTURE), None, is_terminal=True)
    assert "-o FILE" in capsys.readouterr().err


def test_text_on_a_terminal_cannot_drive_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = reply("text/csv", b"a,b\n1,\x1b[2J\n")
    assert shown(monkeypatch, text, None, is_terminal=True) == b"a,b\n1,\\x1b[2J\n"


@pytest.mark.parametrize(
    ("output", "accept", "asked"),
    [
        (None, None, "*/*"),
        ("-", None, "*/*"),
        (None, "text/csv", "text/csv"),
        ("x.npy", None, "application/x-npy, */*;q=0.1"),
        ("x.PNG", None, "image/png, */*;q=0.1"),
        ("x.png", "image/webp", "image/webp, */*;q=0.1"),
        ("x", None, "*/*"),
    ],
)
def test_the_name_of_the_file_asks_for_its_type(
    tmp_path: Path, output: str | None, accept: str | None, asked: str
) -> None:
    path = output if output in (None, "-") else str(tmp_path / str(output))
    how = wanted(path, accept)
    assert how.accept == asked
    assert isinstance(how.to, Path) is (output not in (None, "-"))


def test_where_nothing_can_be_written_is_told_before_the_call(tmp_path: Path) -> None:
    for output in (str(tmp_path), str(tmp_path / "none" / "x")):
        with pytest.raises(typer.BadParameter, match="directory"):
            wanted(output, None)
