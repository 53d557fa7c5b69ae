import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from skipper.blobs import BlobStore, DamagedError, temporary_folder


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The two kinds of file system: this machine's, and any other that fsspec knows."""
    if request.param == "local":
        yield str(tmp_path / "blobs")
    else:
        yield "memory://blobs"
        fsspec.filesystem("memory").store.clear()


@pytest.fixture
def store(url: str) -> BlobStore:
    return BlobStore(url)


def stored(url: str) -> list[str]:
    """Every file below the store, from the outside."""
    fs, root = fsspec.core.url_to_fs(url)
    return sorted(path.removeprefix(root).lstrip("/") for path in fs.find(root))


def folder_of(base: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(content)
    return base


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 3_000_000], ids=["empty", "one", "3 MB"])
def test_what_was_put_is_got_back_under_its_hash(store: BlobStore, content: bytes) -> None:
    digest = store.put(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert store.get(digest) == content


def test_looking_for_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    with pytest.raises(FileNotFoundError):
        store.get("ab" * 32)
    store.delete("ab" * 32, time.time())
    assert list(tmp_path.rglob("*")) == []


def test_the_same_content_is_one_blob_and_nothing_else_is_left(store: BlobStore, url: str) -> None:
    digest = store.put(b"again")
    assert store.put(b"again") == digest
    assert stored(url) == [f"{digest[:2]}/{digest}"]


def test_a_file_is_stored_under_the_hash_of_its_content(store: BlobStore, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"12345" * 500_000)
    digest = store.put_file(file)
    assert digest == store.put(file.read_bytes())
    assert store.get(digest) == file.read_bytes()


def test_a_blob_that_is_not_stored_is_not_found(store: BlobStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.get("0" * 64)


@pytest.mark.parametrize("name", ["", "abc", "../" * 21 + "x", "A" * 64, "0" * 64 + "\n", "é" * 64])
@pytest.mark.parametrize("act", ["get", "delete"])
def test_only_a_digest_names_a_blob(store: BlobStore, name: str, act: str) -> None:
    more = (0.0,) if act == "delete" else ()
    with pytest.raises(ValueError, match="not a blob's name"):
        getattr(store, act)(name, *more)


def test_a_deleted_blob_is_gone_and_may_be_deleted_again(store: BlobStore) -> None:
    digest = store.put(b"short-lived")
    store.delete(digest, before=time.time() + 60)
    store.delete(digest, before=time.time() + 60)
    with pytest.raises(FileNotFoundError):
        store.get(digest)


def test_a_blob_that_has_just_been_put_again_is_not_deleted(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    digest = store.put(b"wanted")
    [file] = tmp_path.rglob(digest)
    os.utime(file, (0, 0))
    store.put(b"wanted")
    store.delete(digest, before=time.time() - 60)
    assert store.get(digest) == b"wanted"


FILES = {"config.json": b"{}", "deep/er/weights.h5": b"\x89HDF" * 1000, "empty": b""}


def test_a_folder_comes_back_as_it_was(store: BlobStore, tmp_path: Path) -> None:
    digest = store.put_folder(folder_of(tmp_path / "model", FILES))
    target = tmp_path / "target"
    target.mkdir()
    store.get_folder(digest, target)
    assert content_of(target) == FILES


def test_a_folder_is_named_by_its_content_alone(store: BlobStore, tmp_path: Path) -> None:
    first = store.put_folder(folder_of(tmp_path / "a", FILES))
    assert store.put_folder(folder_of(tmp_path / "b", dict(reversed(FILES.items())))) == first
    assert store.put_folder(folder_of(tmp_path / "c", FILES | {"empty": b"!"})) != first
    assert store.put_folder(folder_of(tmp_path / "d", FILES | {"more": b""})) != first


def files_of(store: BlobStore, digest: str) -> list[str]:
    return list(json.loads(store.get(digest))["files"].values())


def test_the_files_of_a_folder_are_blobs_of_their_own(store: BlobStore, tmp_path: Path) -> None:
    digest = store.put_folder(folder_of(tmp_path / "model", FILES))
    assert sorted(map(store.get, files_of(store, digest))) == sorted(FILES.values())


def test_links_are_not_followed_out_of_a_folder(store: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    model = folder_of(tmp_path / "model", {"weights": b"w"})
    (model / "link").symlink_to(tmp_path / "secret")
    assert list(map(store.get, files_of(store, store.put_folder(model)))) == [b"w"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up"])
def test_a_manifest_cannot_name_a_file_outside(store: BlobStore, tmp_path: Path, name: str) -> None:
    blob = store.put(b"x")
    manifest = store.put(f'{{"files": {{"{name}": "{blob}"}}}}'.encode())
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    with pytest.raises(ValueError, match="outside itself"):
        store.get_folder(manifest, target)
    assert content_of(tmp_path / "deep") == {}


def overwrite(url: str, digest: str, content: bytes) -> None:
    """Give a blob another content, from the outside."""
    fs, root = fsspec.core.url_to_fs(url)
    path = f"{root}/{digest[:2]}/{digest}"
    fs.rm_file(path)  # it is read-only
    fs.pipe_file(path, content)


DAMAGES = {"one bit": b"gooe", "shorter": b"goo", "empty": b"", "longer": b"good ", "another": b"b"}


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_blob_is_not_got_and_is_repaired_by_its_content(
    store: BlobStore, url: str, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"good")
    puts: list[Callable[[], str]] = [lambda: store.put(b"good"), lambda: store.put_file(file)]
    for put in puts:
        digest = put()
        overwrite(url, digest, content)
        with pytest.raises(DamagedError, match=digest):
            store.get(digest)
        assert put() == digest
        assert store.get(digest) == b"good"
    assert stored(url) == [f"{digest[:2]}/{digest}"]


def test_a_blob_whose_place_is_taken_by_a_folder_is_repaired(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    digest = store.put(b"good")
    place = tmp_path / digest[:2] / digest
    place.unlink()
    (place / "in it").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        store.get(digest)
    store.put(b"good")
    assert store.get(digest) == b"good"
    store.sweep(time.time() + 60)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [place]
    place.unlink()
    place.mkdir()
    store.delete(digest, time.time() + 60)
    assert not place.exists()


def test_a_sound_blob_that_is_put_again_is_not_written_again(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    [file] = tmp_path.rglob(store.put(b"good"))
    before = file.stat().st_ino
    store.put(b"good")
    assert file.stat().st_ino == before


@pytest.mark.parametrize("content", [b"bad!", b""])
def test_a_damaged_file_of_a_folder_is_noticed(
    store: BlobStore, url: str, tmp_path: Path, content: bytes
) -> None:
    digest = store.put_folder(folder_of(tmp_path / "model", {"weights": b"good"}))
    overwrite(url, hashlib.sha256(b"good").hexdigest(), content)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(DamagedError, match="weights"):
        store.get_folder(digest, target)
    assert store.put_folder(tmp_path / "model") == digest
    again = tmp_path / "again"
    again.mkdir()
    store.get_folder(digest, again)
    assert content_of(again) == {"weights": b"good"}


def test_a_folder_whose_manifest_is_damaged_is_not_laid_out(
    store: BlobStore, url: str, tmp_path: Path
) -> None:
    digest = store.put_folder(folder_of(tmp_path / "model", {"weights": b"good"}))
    overwrite(url, digest, b'{"files": {}}')
    with pytest.raises(DamagedError):
        store.get_folder(digest, tmp_path / "target")


def test_two_stores_of_one_place_share_their_blobs(store: BlobStore, url: str) -> None:
    assert BlobStore(url).get(store.put(b"shared")) == b"shared"


def test_a_write_that_fails_leaves_no_blob_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that cannot be synced, as far as the store can tell."""
    store = BlobStore(str(tmp_path))

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        store.put(b"half")
    monkeypatch.undo()
    assert list((tmp_path / "partial").iterdir()) == [], "it takes up room that is wanted"
    with pytest.raises(FileNotFoundError):
        store.get(hashlib.sha256(b"half").hexdigest())
    assert store.get(store.put(b"half")) == b"half"


def test_what_a_writer_that_was_killed_left_half_done_is_swept(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    store.sweep(time.time())  # nothing was ever begun
    kept = store.put(b"whole")
    old, young = tmp_path / "partial" / "old", tmp_path / "partial" / "young"
    for file in (old, young):
        file.write_bytes(b"ha")
    os.utime(old, (1000.0, 1000.0))
    store.sweep(2000.0)
    assert not old.exists()
    assert young.exists()
    assert store.get(kept) == b"whole"


def test_folders_of_a_local_store_are_this_users_alone(tmp_path: Path) -> None:
    digest = BlobStore(str(tmp_path / "blobs")).put(b"private")
    assert (tmp_path / "blobs" / digest[:2]).stat().st_mode & 0o077 == 0


def test_a_temporary_folder_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "tmp") as name:
        (Path(name) / "file").write_bytes(b"x")
        assert Path(name).stat().st_mode & 0o077 == 0
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("way", ["put", "put_file", "adopt"])
def test_whoever_is_given_the_path_of_a_blob_cannot_change_it(tmp_path: Path, way: str) -> None:
    store, file = BlobStore(str(tmp_path / "blobs")), tmp_path / "file"
    file.write_bytes(b"content")
    digest = store.put(b"content") if way == "put" else getattr(store, way)(file)
    path = store.path(digest)
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o400


def test_what_was_written_long_ago_and_is_adopted_now_counts_as_put_now(tmp_path: Path) -> None:
    store, file = BlobStore(str(tmp_path / "blobs")), tmp_path / "file"
    file.write_bytes(b"content")
    os.utime(file, (0, 0))
    digest = store.adopt(file)
    store.delete(digest, before=time.time() - 60)
    assert store.get(digest) == b"content"
    assert not file.exists()
