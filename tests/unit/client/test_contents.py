"""An answer is a value where its library is installed, and is what its headers say it is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skipper.client import contents
from skipper.client.connection import Saving, saving
from skipper.client.messages import Outlet, Reply, Request
from skipper.errors import UnavailableError
from skipper.values.envelope import unpack


def reply(kind: str, content: bytes, **headers: str) -> Reply:
    named = {"content-type": kind, "x-request-id": "r"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=200, headers=named, content=content)


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_the_type_of_an_answer_is_what_its_header_says() -> None:
    assert contents.value_of(reply("application/json; charset=utf-8", b'{"a": 1}')) == {"a": 1}
    assert contents.value_of(reply("application/octet-stream", b"[1]")) == b"[1]"
    assert contents.value_of(reply("audio/wav", b"")) == b""
    assert contents.value_of(reply("text/csv", b"a,b")) == b"a,b"
    array = contents.value_of(reply("application/x-npy", npy(np.arange(3, dtype="int8"))))
    assert (array.dtype, array.tolist()) == (np.int8, [0, 1, 2])


def test_a_file_that_happens_to_be_json_is_a_file() -> None:
    answer = reply("application/json", b"{}", content_disposition='attachment; filename="a.json"')
    assert contents.value_of(answer) == b"{}"
    (part,) = unpack(contents.body_of(answer)).parts
    assert (part.name, part.media_type, bytes(part.data or b"")) == (
        "a.json",
        "application/json",
        b"{}",
    )


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/x-npy", b"no array"),
        ("application/x-npy", npy(np.arange(9))[:-8]),
        ("image/png", b"no picture"),
        ("application/vnd.apache.arrow.stream", b"no table"),
        ("application/json", b"{"),
    ],
)
def test_an_answer_that_is_not_what_it_says_is_an_error_in_words(kind: str, content: bytes) -> None:
    with pytest.raises(UnavailableError, match=r"cannot be read as|is not JSON"):
        contents.value_of(reply(kind, content))


def test_arrays_are_asked_for_and_json_rather_than_anything_else() -> None:
    wanted = contents.accept().split(", ")
    assert wanted[0] == "application/x-npy"
    assert "application/octet-stream" in wanted
    assert wanted[-2:] == ["application/json;q=0.95", "*/*;q=0.9"]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("attachment", None),
        ('inline; filename="a.wav"', "a.wav"),
        ("attachment; filename=\"_.wav\"; filename*=UTF-8''%C3%A9.wav", "é.wav"),
    ],
)
def test_the_name_of_a_file_is_the_exact_one(header: str, name: str | None) -> None:
    assert contents.file_name(reply("audio/wav", b"", content_disposition=header)) == name


def test_what_has_gone_out_in_part_is_not_asked_for_again() -> None:
    stream = io.BytesIO()
    request = Request(method="GET", path="/", to=Outlet(stream))
    assert request.can_be_sent
    assert request.to is not None
    with saving(request.to) as target:
        target.write(b"half")
    assert stream.getvalue() == b"half"
    assert not request.can_be_sent


def test_a_file_that_is_saved_is_there_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def save(*chunks: bytes, fails: bool = False) -> None:
        with Saving(path) as target:
            for chunk in chunks:
                target.write(chunk)
            if fails:
                raise OSError("broke off")

    with pytest.raises(OSError, match="broke off"):
        save(b"new", fails=True)
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "old"
    save(b"ne", b"w")
    assert path.read_bytes() == b"new"
