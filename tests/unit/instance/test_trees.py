"""Files and folders as models: what of them is stored, and how they lie there when they serve."""

import gc
import os
import socket
import sys
import weakref
from pathlib import Path

import pytest

from skipper.errors import FormatError
from skipper.instance import trees


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "deep" / "weights").write_bytes(b"\0\1")
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    folder.mkdir()
    return folder


def test_a_folder_comes_back_as_a_path_with_all_its_files(source: Path, saved: Path) -> None:
    assert trees.save(source, saved) == trees.FOLDER
    path = trees.load(trees.FOLDER, saved, None)
    assert isinstance(path, Path)
    assert (path / "config.json").read_text() == "{}"
    assert (path / "deep" / "weights").read_bytes() == b"\0\1"


def test_a_file_comes_back_under_its_name(source: Path, saved: Path) -> None:
    assert trees.save(source / "config.json", saved) == trees.FILE
    path = trees.load(trees.FILE, saved, None)
    assert (path.name, path.read_text()) == ("config.json", "{}")


def test_a_path_holds_on_to_what_keeps_its_files(source: Path, saved: Path) -> None:
    class Kept:
        """What keeps them."""

    kept = Kept()
    is_gone = weakref.ref(kept)
    trees.save(source, saved)
    path = trees.load(trees.FOLDER, saved, kept)
    del kept
    if sys.version_info >= (3, 12):  # before, a path that is made from one does not hold it
        path = path / "deep" / "weights"
    gc.collect()
    assert is_gone() is not None
    del path
    gc.collect()
    assert is_gone() is None


def test_a_link_within_is_stored_as_what_it_leads_to(source: Path, saved: Path) -> None:
    (source / "link").symlink_to("deep/weights")
    trees.save(source, saved)
    assert not (saved / "link").is_symlink()
    assert (saved / "link").read_bytes() == b"\0\1"


def leads_out(source: Path) -> None:
    (source.parent / "secret").write_text("x")
    (source / "deep" / "out").symlink_to("../../secret")


def leads_out_absolutely(source: Path) -> None:
    (source / "out").symlink_to("/etc/hostname")


def leads_to_a_folder(source: Path) -> None:
    (source / "round").symlink_to(".", target_is_directory=True)


def leads_nowhere(source: Path) -> None:
    (source / "broken").symlink_to("nothing")


def is_a_pipe(source: Path) -> None:
    os.mkfifo(source / "pipe")


def is_a_socket(source: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(source / "sock"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (leads_out, "leads out"),
        (leads_out_absolutely, "leads out"),
        (leads_to_a_folder, "link to a folder"),
        (leads_nowhere, "leads nowhere"),
        (is_a_pipe, "neither a file nor a folder"),
        (is_a_socket, "neither a file nor a folder"),
    ],
)
def test_what_is_not_a_folders_own_is_refused_when_it_is_saved(
    source: Path, saved: Path, spoil: object, message: str
) -> None:
    assert callable(spoil)
    spoil(source)
    with pytest.raises(FormatError, match=message):
        trees.save(source, saved)


def test_nothing_to_store_is_refused(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "empty" / "within").mkdir(parents=True)
    with pytest.raises(FormatError, match="no file"):
        trees.save(tmp_path / "empty", saved)
    with pytest.raises(FormatError, match="not there any more"):
        trees.save(tmp_path / "gone", saved)


def test_a_link_is_refused_when_it_is_loaded(saved: Path) -> None:
    (saved / "out").symlink_to("/etc/hostname")
    with pytest.raises(FormatError, match="a link is stored"):
        trees.load(trees.FOLDER, saved, None)


@pytest.mark.parametrize("names", [[], ["a", "b"]])
def test_one_file_is_one_file(saved: Path, names: list[str]) -> None:
    for name in names:
        (saved / name).touch()
    with pytest.raises(FormatError, match="one file was saved"):
        trees.load(trees.FILE, saved, None)
