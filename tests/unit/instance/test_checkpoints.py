"""What a task hands over to go on from, between its function and its host."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skipper.blobs import BlobStore
from skipper.errors import FormatError, FullError, NoRoomError, TooLargeError, UnavailableError
from skipper.function.model import Model
from skipper.function.run import Run
from skipper.instance import checkpoints
from skipper.instance.checkpoints import AttemptCheckpoints, CheckpointStore
from skipper.instance.publications import AttemptPublications, TrainedModels
from skipper.instance.wishes import (
    AnyWish,
    FindCheckpoints,
    FindModel,
    KeepCheckpoint,
    KeptCheckpoint,
    KeptCheckpoints,
    PublishModel,
    RoomForCheckpoint,
    parse_wish,
)
from skipper.outcomes import Outcome
from skipper.wire import calls, frames
from skipper.wire.frames import FrameKind
from tests.unit.instance.serving import Serving

TASK = "3b0tjrcjh43k409qcsjtggd587"


class Host:
    """Answers an instance's wishes, and keeps what was to be recorded."""

    def __init__(self, serving: Serving, folder: Path) -> None:
        self._serving = serving
        self.blobs = BlobStore(str(folder / "blobs"))
        self.tmp_dir = folder / "tmp"
        store = CheckpointStore(
            link=serving.link, models=serving.models, blobs=self.blobs, tmp_dir=self.tmp_dir
        )
        self.log: list[tuple[str, str]] = []
        self.attempt = AttemptCheckpoints(store, TASK, lambda *line: self.log.append(line))
        self.recorded: list[KeptCheckpoint] = []
        self.sizes: list[int] = []
        self.published: list[PublishModel] = []
        trained = TrainedModels(
            link=serving.link, models=serving.models, call_id=1, check_size=lambda _: None
        )
        self.publications = AttemptPublications(trained=trained, store=store, task_id=TASK)
        self.refusals: dict[type[AnyWish], bytes] = {}
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        splitter = frames.Splitter()
        while data := self._serving.theirs.recv(1 << 16):
            for frame in splitter.feed(data):
                assert frame.kind == FrameKind.WISH
                reply = self._reply(parse_wish(frame.payload))
                self._serving.theirs.sendall(frames.pack(FrameKind.REPLY, frame.id, reply))

    def _reply(self, wish: AnyWish) -> bytes:
        assert not isinstance(wish, FindModel)
        if (refusal := self.refusals.get(type(wish))) is not None:
            return refusal
        assert wish.task_id == TASK
        match wish:
            case RoomForCheckpoint():
                self.sizes.append(wish.size)
                return calls.reply(Outcome.OK, b"", b"")
            case KeepCheckpoint():
                assert all(self.blobs.touch(ref) for ref in wish.refs)
                self.recorded.insert(0, _kept(wish, len(self.recorded) + 1))
                return calls.reply(Outcome.OK, b"", b"1")
            case PublishModel():
                self.published.append(wish)
                record = {"name": wish.name, "version": wish.step + 1, "metrics": wish.metrics}
                return calls.reply(Outcome.OK, b"", json.dumps(record).encode())
            case FindCheckpoints():
                found = KeptCheckpoints(items=tuple(self.recorded))
                return calls.reply(Outcome.OK, b"", found.model_dump_json().encode())

    def restored(self) -> Any:
        found = self.attempt.restore()
        return None if found is None else found.value

    def close(self) -> None:
        self.attempt.close()
        self._serving.ours.close()
        self._thread.join(10)


def _kept(wish: KeepCheckpoint, number: int) -> KeptCheckpoint:
    return KeptCheckpoint(
        number=number,
        attempt=number,
        digest=wish.digest,
        format=wish.format,
        at=0.0,
        progress=wish.progress,
    )


@pytest.fixture
def host(serving: Serving, tmp_path: Path) -> Iterator[Host]:
    made = Host(serving, tmp_path)
    yield made
    made.close()


def test_a_value_comes_back_as_a_plugin_loads_it(host: Host) -> None:
    host.attempt.keep({"weights": [1, 2]}, {"done": 1, "total": 2})
    found = host.attempt.restore()
    assert found is not None
    assert found.value == {"weights": [1, 2]}
    assert found.progress == {"done": 1, "total": 2}
    assert host.sizes == [len(json.dumps({"weights": [1, 2]}))]
    assert host.log == [("goes on from checkpoint 1 of attempt 1", "info")]


def test_a_folder_and_a_file_come_back_as_paths_of_the_runs_own(host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "w").write_bytes(b"weights")
    host.attempt.keep(folder, None)
    again = host.restored()
    assert (again / "deep" / "w").read_bytes() == b"weights"
    assert again != folder
    host.attempt.keep(folder / "deep" / "w", None)
    (file,) = (host.restored(),)
    assert (file.name, file.read_bytes()) == ("w", b"weights")
    file.write_bytes(b"changed")  # it is the run's, and no blob
    assert host.restored().read_bytes() == b"weights"
    host.attempt.close()
    assert not list(host.tmp_dir.iterdir())


def test_without_any_there_is_nothing_to_go_on_from(host: Host) -> None:
    assert host.attempt.restore() is None
    assert host.log == []


def _without_blob(host: Host) -> None:
    host.blobs.delete(host.recorded[0].digest, before=4e9)


def _with_flipped_bit(host: Host) -> None:
    (name,) = host.blobs.members(host.recorded[0].digest) - {host.recorded[0].digest}
    path = host.blobs.path(name)
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def _of_unknown_format(host: Host) -> None:
    host.recorded[0] = host.recorded[0].model_copy(update={"format": "of-a-library-that-is-gone"})


def _that_no_longer_loads(host: Host) -> None:
    (host.tmp_dir / "x").mkdir(parents=True, exist_ok=True)
    (host.tmp_dir / "x" / "value.json").write_text("{no json")
    host.recorded[0] = host.recorded[0].model_copy(
        update={"digest": host.blobs.put_folder(host.tmp_dir / "x")}
    )


UNLOADABLE = [_without_blob, _with_flipped_bit, _of_unknown_format, _that_no_longer_loads]


@pytest.mark.parametrize("damage", UNLOADABLE)
def test_one_that_cannot_be_loaded_is_told_and_the_one_before_is_taken(
    host: Host, damage: Callable[[Host], None]
) -> None:
    host.attempt.keep({"step": 1}, {"done": 1})
    host.attempt.keep({"step": 2}, {"done": 2})
    damage(host)
    found = host.attempt.restore()
    assert found is not None
    assert (found.value, found.progress) == ({"step": 1}, {"done": 1})
    assert [level for _, level in host.log] == ["warning", "info"]
    assert host.log[0][0].startswith("checkpoint 2 of attempt 2 cannot be loaded: ")


@pytest.mark.parametrize("damage", UNLOADABLE)
def test_where_none_can_be_loaded_the_run_begins_anew(
    host: Host, damage: Callable[[Host], None]
) -> None:
    host.attempt.keep({"step": 1}, None)
    damage(host)
    assert host.attempt.restore() is None
    assert [level for _, level in host.log] == ["warning"]


def test_where_there_is_no_room_the_function_is_told_before_anything_is_stored(host: Host) -> None:
    full = calls.problem(Outcome.BUSY, "Checkpoints take 50 GB already")
    host.refusals[RoomForCheckpoint] = full
    with pytest.raises(FullError, match="take 50 GB"):
        host.attempt.keep({"step": 1}, None)
    assert not any(host.blobs.shard(number) for number in range(256))
    assert not host.recorded


def test_an_attempt_that_was_taken_away_is_told(host: Host) -> None:
    host.refusals[KeepCheckpoint] = calls.problem(Outcome.UNAVAILABLE, "not this attempt's")
    with pytest.raises(UnavailableError, match="not this attempt's"):
        host.attempt.keep({"step": 1}, None)


def test_a_full_disk_is_told_as_such(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(BlobStore, "put_folder", full)
    with pytest.raises(NoRoomError, match="no room for a checkpoint"):
        host.attempt.keep({"step": 1}, None)


def test_a_value_that_no_plugin_saves_is_told(host: Host) -> None:
    with pytest.raises(FormatError, match=r"a builtins.object; .*\(a checkpoint\)"):
        host.attempt.keep(object(), None)


def test_links_and_more_files_than_are_kept_are_refused(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "out").symlink_to("/etc")
    with pytest.raises(ValueError, match="leads out of the folder"):
        host.attempt.keep(folder, None)
    (folder / "out").unlink()
    monkeypatch.setattr(checkpoints, "MOST_FILES", 3)
    for name in "abcd":
        (folder / name).touch()
    with pytest.raises(TooLargeError, match="at most 3 files"):
        host.attempt.keep(folder, None)


def test_blobs_that_a_sweep_takes_meanwhile_are_put_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, tries = BlobStore.put_folder, []

    def swept(self: BlobStore, folder: Path, **how: Any) -> str:
        digest = put(self, folder, **how)
        tries.append(digest)
        if len(tries) == 1:
            for name in self.members(digest) - {digest}:
                self.delete(name, before=4e9)
        return digest

    monkeypatch.setattr(BlobStore, "put_folder", swept)
    host.attempt.keep({"step": 1}, None)
    assert len(tries) == 2
    assert host.restored() == {"step": 1}


# --- models that are published while it goes on ----------------------------------------------


def test_a_model_is_published_while_its_training_goes_on(host: Host) -> None:
    """mlflow/mlflow#6180: several models of one run, each a version of its own."""
    run = Run(task_id=TASK, publications=host.publications)
    records = [run.save(Model("m", {"weights": [i]}, {"loss": i}, {"depth": 2})) for i in (3, 4)]
    assert [record["version"] for record in records] == [1, 2]
    run.save(Model("m", {"weights": [9]}), step=40)
    run.save(Model("m", {"weights": [9]}))
    run.save(Model("n", {"weights": [9]}))
    wishes = [(wish.name, wish.step) for wish in host.published]
    assert wishes == [("m", 0), ("m", 1), ("m", 40), ("m", 41), ("n", 0)]
    first = host.published[0]
    assert (first.metrics, first.params) == ({"loss": 3}, {"depth": 2})
    assert host.blobs.members(first.digest)


def test_a_model_that_cannot_be_served_is_no_version_and_its_training_may_go_on(host: Host) -> None:
    host.refusals[PublishModel] = calls.problem(Outcome.FAILED, "the model 'm' cannot be loaded")
    with pytest.raises(FormatError, match="'m' cannot be loaded"):
        host.publications.publish(Model("m", {"weights": [1]}), 0)
    del host.refusals[PublishModel]
    assert host.publications.publish(Model("m", {"weights": [1]}), 1)["version"] == 2


@pytest.mark.parametrize("step", [-1, 2**31, 1.5])
def test_a_step_is_a_number_that_the_ledger_can_keep(host: Host, step: Any) -> None:
    with pytest.raises(ValueError, match="a step is a number from 0"):
        Run(publications=host.publications).save(Model("m", {}), step=step)


def test_in_a_function_that_is_called_in_place_nothing_is_published() -> None:
    record = Run().save(Model("m", object(), {"loss": 1}))
    assert record == {"name": "m", "version": None, "metrics": {"loss": 1}}
