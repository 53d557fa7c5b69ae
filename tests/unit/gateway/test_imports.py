"""An archive of a model is taken where it agrees with itself, whoever has forged it how."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from skipper.errors import FormatError
from skipper.gateway.imports import MOST_LEVELS, unpack

CONTENT = b"weights" * 1000
Entries = list[tuple[tarfile.TarInfo, bytes]]


def manifest(**members: Any) -> dict[str, Any]:
    """What an archive of one file says of itself; ``members`` are said otherwise."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    return {
        "layout": 1,
        "name": "boston",
        "version": 7,
        "digest": "a" * 64,
        "format": "keras",
        "metrics": {"rmse": 3.1},
        "params": None,
        "code": "c0de",
        "task_id": "3b0a",
        "function": "boston.train",
        "created_at": "2026-01-01T10:00:00Z",
        "size": len(CONTENT),
        "state": "fit",
        "reason": None,
        "gate": None,
        "origin": None,
        "roles": ["production"],
        "aliases": [],
        "libraries": {"keras": "3.1"},
        "files": [{"path": "a/model.bin", "size": len(CONTENT), "sha256": digest}],
    } | members


def entry(name: str, data: bytes, **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info, data


def head(**members: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry("skipper-model.json", json.dumps(manifest(**members)).encode())


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


BODY = entry("files/a/model.bin", CONTENT)


def named(path: str) -> list[dict[str, Any]]:
    return [manifest()["files"][0] | {"path": path}]


def refused(data: bytes, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    with pytest.raises(FormatError) as caught:
        unpack(io.BytesIO(data), folder)
    return str(caught.value)


def test_what_is_whole_is_laid_out(tmp_path: Path) -> None:
    told = unpack(io.BytesIO(archive(head(), BODY)), tmp_path)
    assert (told.name, told.metrics, told.libraries) == ("boston", {"rmse": 3.1}, {"keras": "3.1"})
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["model.bin"]
    assert (tmp_path / "a" / "model.bin").read_bytes() == CONTENT


def test_long_names_are_taken(tmp_path: Path) -> None:
    path = "/".join(["größe" * 10] * 6)
    made = archive(head(files=named(path)), entry(f"files/{path}", CONTENT))
    unpack(io.BytesIO(made), tmp_path)
    assert (tmp_path / path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.DIRTYPE, "a folder"),
        (tarfile.GNUTYPE_SPARSE, "of a kind"),
        (tarfile.XHDTYPE, "of a kind"),
    ],
)
def test_only_plain_files_are_taken(tmp_path: Path, kind: bytes, told: str) -> None:
    link = entry("files/a/model.bin", b"", type=kind, linkname="/etc/passwd")
    assert told in refused(archive(head(), link), tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a/..",
        "..",
        ".",
        "",
        "a//b",
        "./a",
        "a/",
        "a\0b",
        "a\nb",
    ],
)
def test_no_path_leads_out_of_the_model(tmp_path: Path, path: str) -> None:
    made = archive(head(files=named(path)), entry(f"files/{path}", CONTENT))
    assert "files.0.path" in refused(made, tmp_path / "out")
    assert [each.name for each in tmp_path.rglob("*")] == ["out"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "files/../../x", "files/a/other.bin"])
def test_a_member_that_its_manifest_does_not_name_is_refused(tmp_path: Path, name: str) -> None:
    assert "there is" in refused(archive(head(), entry(name, CONTENT)), tmp_path / "one")
    more = archive(head(), BODY, entry(name, CONTENT))
    assert "not in its manifest" in refused(more, tmp_path / "two")


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    assert "its end" in refused(archive(head()), tmp_path / "out")


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b"), ("a/b/c", "a/b"), ("a/b", "a")])
def test_no_two_files_are_at_one_place(tmp_path: Path, paths: tuple[str, str]) -> None:
    files = [*named(paths[0]), *named(paths[1])]
    made = archive(head(files=files), *(entry(f"files/{path}", CONTENT) for path in paths))
    assert "two files at one place" in refused(made, tmp_path / "out")


@pytest.mark.parametrize(
    "data", [CONTENT[:-1] + b"!", bytes(len(CONTENT)), CONTENT[1:], CONTENT + b"x"]
)
def test_each_file_is_of_its_size_and_hash(tmp_path: Path, data: bytes) -> None:
    refused(archive(head(), entry("files/a/model.bin", data)), tmp_path / "out")


@pytest.mark.parametrize(
    "members",
    [
        {"layout": 2},
        {"layout": None},
        {"layout": True},
        {"layout": "1"},
        {"more": 1},
        {"name": "../boston"},
        {"version": 0},
        {"version": "7"},
        {"format": "a\nb"},
        {"function": ""},
        {"metrics": [1]},
        {"libraries": {"keras": 3}},
        {"files": []},
        {"files": None},
        {"files": [{"path": "a", "size": -1, "sha256": "a" * 64}]},
        {"files": [{"path": "a", "size": 1, "sha256": "A" * 64}]},
    ],
)
def test_a_manifest_is_of_this_layout_and_no_other(tmp_path: Path, members: Any) -> None:
    told = refused(archive(head(**members), BODY), tmp_path / "out")
    assert "its layout is" in told if "layout" in members else "is wrong at" in told


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "9" * 5000])
def test_no_number_is_taken_that_could_not_be_answered(tmp_path: Path, number: str) -> None:
    text = json.dumps(manifest()).replace("3.1}", number + "}", 1)
    made = archive(entry("skipper-model.json", text.encode()), BODY)
    assert "cannot be read" in refused(made, tmp_path / "out")


def test_what_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(MOST_LEVELS + 1):
        deep = [deep]
    assert "nested" in refused(archive(head(params={"x": deep}), BODY), tmp_path / "one")
    bomb = b"[" * 100_000
    assert "cannot be read" in refused(archive(entry("skipper-model.json", bomb)), tmp_path / "two")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_manifest_is_a_document(tmp_path: Path, text: bytes) -> None:
    refused(archive(entry("skipper-model.json", text), BODY), tmp_path / "out")


def test_a_manifest_comes_first_and_is_bounded(tmp_path: Path) -> None:
    assert "does not begin" in refused(archive(BODY, head()), tmp_path / "one")
    huge = entry("skipper-model.json", b" " * ((4 << 20) + 1))
    assert "more than 4 MiB" in refused(archive(huge), tmp_path / "two")
