"""A file is written again only where nobody can see any more what it held."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from skipper.values import kept
from skipper.values.kept import HAS_LEASES, PREFIX, let_stay, opened
from skipper.values.spool import Spool

pytestmark = pytest.mark.skipif(not HAS_LEASES, reason="this system cannot tell who has a file")

OLD, NEW = b"o" * 300_000, b"n" * 300_000
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    found = Spool(tmp_path / "spool", keeps=1 << 20)
    yield found
    found.let_go()


def inode(spool: Spool, name: str) -> int:
    return (spool.folder / name).stat().st_ino


def names(spool: Spool) -> set[str]:
    return {path.name for path in spool.folder.iterdir()}


def test_what_nobody_sees_any_more_is_written_again_under_another_name(spool: Spool) -> None:
    name = spool.put(OLD)
    was = inode(spool, name)
    spool.remove([name])
    again = spool.put(NEW)
    assert inode(spool, again) == was
    assert again != name
    assert spool.read(again) == NEW
    with pytest.raises(FileNotFoundError):
        spool.view(name)


@pytest.mark.parametrize("size", [1, 299_999, 300_001, 900_000])
def test_nothing_is_left_of_what_it_held(spool: Spool, size: int) -> None:
    spool.remove([spool.put(OLD)])
    assert spool.read(spool.put(b"n" * size)) == b"n" * size


def test_what_breaks_off_while_it_is_written_again_is_gone(spool: Spool) -> None:
    spool.remove([spool.put(OLD)])
    with spool.create() as file:
        file.write(b"half")
    assert not (spool.folder / file.name).exists()
    assert spool.read(spool.put(NEW)) == NEW


# --- who may see it still ------------------------------------------------------------------------


def _mapped(spool: Spool, name: str) -> Callable[[], bytes]:
    view = spool.view(name)
    return lambda: bytes(view)


def _open(spool: Spool, name: str) -> Callable[[], bytes]:
    stream = spool.open(name)
    return stream.read


def _mapped_privately(spool: Spool, name: str) -> Callable[[], bytes]:
    """By who closes the descriptor, as libraries in C do."""
    with spool.open(name) as stream:
        view = mmap.mmap(stream.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
    return lambda: bytes(view)


def _linked(spool: Spool, name: str) -> Callable[[], bytes]:
    target = spool.folder.parent / "linked"
    os.link(spool.path(name), target)
    return target.read_bytes


def _moved(spool: Spool, name: str) -> Callable[[], bytes]:
    target = spool.folder.parent / "moved"
    spool.path(name).rename(target)
    return target.read_bytes


def _opened_by_path(spool: Spool, name: str) -> Callable[[], bytes]:
    stream = spool.path(name).open("rb")
    return stream.read


SEEN = [_mapped, _open, _mapped_privately, _linked, _moved, _opened_by_path]


@pytest.mark.parametrize("see", SEEN)
def test_what_somebody_sees_stays_as_it_is(
    spool: Spool, see: Callable[[Spool, str], Callable[[], bytes]]
) -> None:
    name = spool.put(OLD)
    was, read = inode(spool, name), see(spool, name)
    spool.remove([name])
    others = [spool.put(NEW) for _ in range(3)]
    assert was not in {inode(spool, other) for other in others}
    assert read() == OLD


def test_what_has_not_been_removed_stays_as_it_is(spool: Spool) -> None:
    name = spool.put(OLD)
    spool.put(NEW)
    assert spool.read(name) == OLD


def _hold(line: Connection) -> None:
    line.send("ready")
    line.recv()


def test_what_a_forked_child_alone_still_has_mapped_stays_as_it_is(spool: Spool) -> None:
    name = spool.put(OLD)
    was, view = inode(spool, name), spool.view(name)
    here, there = FORK.Pipe()
    child = FORK.Process(target=_hold, args=(there,), daemon=True)
    child.start()
    assert here.recv() == "ready"
    spool.remove([name])
    view.release()
    del view  # the last that this process has of it
    assert inode(spool, spool.put(NEW)) != was
    here.send("end")
    child.join(10)
    assert inode(spool, spool.put(NEW)) == was


def test_a_forked_child_writes_to_files_of_its_own(spool: Spool) -> None:
    name = spool.put(OLD)
    was = inode(spool, name)
    spool.remove([name])
    here, there = FORK.Pipe()
    child = FORK.Process(target=lambda: there.send(inode(spool, spool.put(NEW))), daemon=True)
    child.start()
    assert here.recv() != was
    child.join(10)
    assert inode(spool, spool.put(NEW)) == was


# --- between looking and writing -----------------------------------------------------------------


class RemovedMeanwhile(type(Path())):  # type: ignore[misc] # the class of this system's paths
    """A name that somebody else removes after it has been opened."""

    def stat(self, **more: bool) -> os.stat_result:
        self.unlink()
        found: os.stat_result = super().stat(**more)
        return found


def test_who_opens_a_name_that_is_removed_meanwhile_gets_nothing(spool: Spool) -> None:
    path = RemovedMeanwhile(spool.folder / spool.put(OLD))
    with pytest.raises(FileNotFoundError), opened(path):
        pass


def test_who_opens_a_name_that_is_another_files_meanwhile_gets_nothing(spool: Spool) -> None:
    class Replaced(type(Path())):  # type: ignore[misc] # the class of this system's paths
        def stat(self, **more: bool) -> os.stat_result:
            return Path(self.parent, second).stat()

    first, second = spool.put(OLD), spool.put(NEW)
    with pytest.raises(FileNotFoundError), opened(Replaced(spool.folder / first)):
        pass


def test_what_somebody_wants_for_good_is_not_written_again(spool: Spool) -> None:
    name = spool.put(OLD)
    was = inode(spool, name)
    let_stay(spool.folder / name)
    spool.remove([name])
    assert names(spool) == set()
    assert inode(spool, spool.put(b"x" * 10)) != was or spool.read(spool.put(NEW)) == NEW


def test_who_is_asked_while_it_is_being_opened_is_not_ended_by_that(spool: Spool) -> None:
    """The kernel tells the holder of a lease by a signal, which by itself ends a process."""
    over, name = threading.Event(), spool.put(OLD)
    second = next(spool.folder / each for each in names(spool) if each.startswith(PREFIX))

    def look() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):  # it is gone, or is being looked at just now
                os.close(os.open(second, os.O_RDONLY | os.O_NONBLOCK))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    spool.remove([name])
    for _ in range(300):
        spool.remove([spool.put(OLD)])
    over.set()
    looking.join(10)


class Reader:
    """Looks at names as they are given away, each with the byte that its file consists of."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.given: list[tuple[str, int]] = []
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._read, daemon=True) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        while not self._over.is_set():
            for name, mark in self.given[-4:]:
                with contextlib.suppress(FileNotFoundError):
                    self._look(name, mark)

    def _look(self, name: str, mark: int) -> None:
        with self._spool.view(name) as view:
            found = {view[at] for at in range(0, len(view), 1000)}
        if found != {mark}:
            self.wrong.append(name)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)


def test_readers_never_see_what_was_written_for_another(spool: Spool) -> None:
    """They come while names are given, removed and given again."""
    reader = Reader(spool)
    for turn in range(1500):
        mark = turn % 256
        name = spool.put(bytes([mark]) * (20_000 + turn % 7 * 5_000))
        reader.given.append((name, mark))
        if len(reader.given) > 3:
            spool.remove([reader.given[-3][0]])
    reader.end()
    assert reader.wrong == []


# --- what is kept is bounded ----------------------------------------------------------------------


def test_no_more_is_kept_than_there_is_room_for(spool: Spool) -> None:
    made = [spool.put(OLD) for _ in range(10)]
    spool.remove(made)
    sizes = [(spool.folder / name).stat().st_size for name in names(spool)]
    assert 0 < sum(sizes) <= 1 << 20


def test_what_is_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LARGEST", 1000)
    spool = Spool(tmp_path, keeps=1 << 20)
    spool.remove([spool.put(b"x" * 1001)])
    assert names(spool) == set()


def test_in_the_end_nothing_is_kept(spool: Spool) -> None:
    spool.remove([spool.put(OLD) for _ in range(3)])
    assert names(spool)
    spool.let_go()
    assert names(spool) == set()


def test_what_lies_idle_is_tidied_away_whoever_kept_it(spool: Spool) -> None:
    name = spool.put(OLD)
    other = Spool(spool.folder)
    for path in spool.folder.iterdir():
        os.utime(path, (1, 1))
    other.tidy()
    assert names(spool) == {name}
    spool.remove([name])
    assert spool.read(spool.put(NEW)) == NEW


def test_what_was_used_just_now_is_not_tidied_away(spool: Spool) -> None:
    name = spool.put(OLD)
    was = inode(spool, name)
    spool.remove([name])
    spool.tidy()
    assert inode(spool, spool.put(NEW)) == was


def test_where_there_are_no_leases_all_files_are_new(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(descriptor: int, command: int, argument: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refuses)
    name = spool.put(OLD)
    spool.remove([name])
    assert spool.read(spool.put(NEW)) == NEW
    assert len(names(spool)) == 2


def test_a_file_keeps_its_owner_alone(spool: Spool) -> None:
    spool.remove([spool.put(OLD)])
    name = spool.put(NEW)
    assert (spool.folder / name).stat().st_mode & 0o777 == 0o600
