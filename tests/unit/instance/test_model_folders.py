"""Models' files, laid out once for all processes of a machine, and gone when none holds them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from skipper.blobs import BlobStore, DamagedError
from skipper.instance.model_folders import HeldFolder, ModelFolders, sweep

spawned = multiprocessing.get_context("spawn")


class CountedStore(BlobStore):
    """A store that counts how often a folder was laid out."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.copies = 0

    def get_folder(self, digest: str, target: Path) -> None:
        self.copies += 1
        super().get_folder(digest, target)


@pytest.fixture
def store(tmp_path: Path) -> CountedStore:
    return CountedStore(str(tmp_path / "blobs"))


@pytest.fixture
def digest(store: CountedStore, tmp_path: Path) -> str:
    (tmp_path / "saved" / "deep").mkdir(parents=True)
    (tmp_path / "saved" / "model.npy").write_bytes(b"numbers")
    (tmp_path / "saved" / "deep" / "words").write_text("a\nb\n")
    return store.put_folder(tmp_path / "saved")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def hold(store: CountedStore, digest: str, place: Path) -> Callable[[], HeldFolder]:
    return lambda: ModelFolders(store, place).hold(digest, store.folder(digest))


Hold = Callable[[], HeldFolder]


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_all_processes_are_given_the_same_files(hold: Hold, store: CountedStore) -> None:
    first, second = hold(), hold()
    assert first.path == second.path
    assert store.copies == 1
    assert (first.path / "model.npy").read_bytes() == b"numbers"
    assert (first.path / "deep" / "words").read_text() == "a\nb\n"


def test_they_are_read_only_and_no_part_of_the_store(
    hold: Hold, store: CountedStore, digest: str
) -> None:
    path = hold().path
    assert [mode(each) for each in (path, path / "deep", path / "deep" / "words")] == [
        "0o500",
        "0o500",
        "0o400",
    ]
    blob = store.path(store.folder(digest).files["model.npy"])
    assert blob is not None
    assert not (path / "model.npy").samefile(blob)
    assert (path / "model.npy").stat().st_nlink == 1


@pytest.mark.parametrize("is_swept", [False, True])
def test_many_at_once_are_given_one_and_wait_for_nobody_who_serves(
    hold: Hold, store: CountedStore, place: Path, *, is_swept: bool
) -> None:
    for _ in range(5):
        with ThreadPoolExecutor(9) as threads:
            holding = [threads.submit(hold) for _ in range(8)]
            if is_swept:
                threads.submit(sweep, place)
            held = [each.result() for each in holding]
        assert len({each.path for each in held}) == 1
        assert (held[0].path / "model.npy").exists()
        assert is_swept or store.copies == 1
        assert [each.name for each in place.iterdir()] == [held[0].path.name]
        store.copies = 0
        held.clear()
        holding.clear()
        gc.collect()
        sweep(place)


def test_they_stay_while_anybody_holds_them_and_go_when_nobody_does(
    hold: Hold, place: Path
) -> None:
    first, second = hold(), hold()
    path = first.path
    del first
    gc.collect()
    sweep(place)
    assert (path / "model.npy").exists()
    del second
    gc.collect()
    sweep(place)
    assert list(place.iterdir()) == []


def _hold_until_killed(url: str, place: Path, digest: str, ready: Any) -> None:
    store = BlobStore(url)
    held = ModelFolders(store, place).hold(digest, store.folder(digest))
    ready.send(str(held.path))
    signal.pause()


def test_what_another_process_holds_stays_until_it_is_killed(
    store: CountedStore, digest: str, place: Path, tmp_path: Path
) -> None:
    ours, theirs = spawned.Pipe()
    args = (str(tmp_path / "blobs"), place, digest, theirs)
    process = spawned.Process(target=_hold_until_killed, args=args)
    process.start()
    path = Path(ours.recv())
    sweep(place)
    assert path.exists()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    sweep(place)
    assert not path.exists()


@pytest.mark.parametrize("is_protected", [True, False])
def test_what_a_killed_process_had_begun_is_begun_again(
    hold: Hold, place: Path, digest: str, *, is_protected: bool
) -> None:
    left = place / f"{digest}.partial"
    left.mkdir(parents=True)
    (left / "model.npy").write_bytes(b"num")
    left.chmod(0o500 if is_protected else 0o700)
    assert (hold().path / "model.npy").read_bytes() == b"numbers"
    assert not left.exists()


def test_what_a_killed_process_had_begun_is_swept(place: Path, digest: str) -> None:
    for name in (f"{digest}.partial", "gone-0123"):
        (place / name / "deep").mkdir(parents=True)
        (place / name / "deep").chmod(0o500)
        (place / name).chmod(0o500)
    sweep(place)
    assert list(place.iterdir()) == []


def longer(file: Path) -> None:
    file.write_bytes(b"numbers and more")


def of_the_same_size(file: Path) -> None:
    file.write_bytes(b"NUMBERS")


@pytest.mark.parametrize("change", [longer, of_the_same_size, Path.unlink])
def test_what_somebody_has_changed_serves_no_one_else(
    hold: Hold, store: CountedStore, change: Callable[[Path], Any]
) -> None:
    first = hold()
    first.path.chmod(0o700)
    (first.path / "model.npy").chmod(0o600)
    change(first.path / "model.npy")
    assert (hold().path / "model.npy").read_bytes() == b"numbers"
    assert store.copies == 2


def test_of_what_cannot_be_laid_out_nothing_is_left(
    hold: Hold, store: CountedStore, digest: str, place: Path
) -> None:
    blob = store.path(store.folder(digest).files["model.npy"])
    assert blob is not None
    blob.chmod(0o600)
    blob.write_bytes(b"NUMBERS")
    with pytest.raises(DamagedError):
        hold()
    assert list(place.iterdir()) == []


def test_a_sweep_finds_nothing_where_nothing_was_ever_laid_out(place: Path) -> None:
    sweep(place)
    assert not place.exists()


def test_a_sweep_leaves_what_is_no_folder(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    place.mkdir()
    (place / "note").write_text("x")
    (place / "link").symlink_to("note")
    sweep(place)
    assert sorted(each.name for each in place.iterdir()) == ["link", "note"]
    assert "could not be removed" in caplog.text
