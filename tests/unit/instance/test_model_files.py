"""Models of parts in the store: saved once each, loaded as they were, told what is wrong."""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skipper.blobs import BlobStore
from skipper.errors import FormatError
from skipper.function.model import Model
from skipper.instance import provenance
from skipper.instance.jobs import ModelRef
from skipper.instance.model_files import MANIFEST, PARTS, ModelFiles, UnsavedError
from skipper.instance.model_folders import sweep
from skipper.instance.models import LoadedModels
from skipper.instance.plugins import Plugins

PLUGIN = """
import json
import skipper
from tests.unit.instance.test_model_files import Broken, Net, Odd

@skipper.hook
def skipper_save_model(value, folder):
    if isinstance(value, Broken):
        (folder / "half").write_text("half")
        raise RuntimeError("it is too wide")
    if isinstance(value, Odd):
        return value.format
    if isinstance(value, Net):
        (folder / "net.json").write_text(json.dumps(value.weights))
        return "net"

@skipper.hook
def skipper_load_model(format, folder):
    if format == "net":
        return Net(json.loads((folder / "net.json").read_text()))

@skipper.hook
def skipper_model_state(format, model):
    if format == "net":
        return json.dumps(model.weights).encode()
"""


class Net:
    """What the plugin knows."""

    def __init__(self, weights: list[float]) -> None:
        self.weights = weights


class Broken(Net):
    """What the plugin fails with."""


class Odd:
    """What the plugin saves in a format of this name."""

    def __init__(self, name: object) -> None:
        self.format = name


class Unknown:
    """What nobody saves."""


@dataclasses.dataclass
class Bundle:
    net: Net
    labels: tuple[str, ...]


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[Plugins]:
    folder = tmp_path / "project" / "plugins"
    folder.mkdir(parents=True)
    (folder / "nets.py").write_text(PLUGIN)
    yield Plugins(folder)
    del sys.modules["nets"]


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "blobs"))


@pytest.fixture
def models(store: BlobStore, plugins: Plugins, tmp_path: Path) -> LoadedModels:
    return LoadedModels(store, plugins, tmp_dir=tmp_path / "tmp", models_dir=tmp_path / "models")


@pytest.fixture
def files(plugins: Plugins) -> ModelFiles:
    return ModelFiles(plugins)


@pytest.fixture
def stored(models: LoadedModels) -> Callable[[Any], Any]:
    def through(value: Any) -> Any:
        saved = models.save(Model("m", value))
        models.put(ModelRef(name="m", version=1, **saved))
        return models.injected({"model": "m"})["model"]

    return through


def test_a_scaler_and_labels_beside_the_net_come_back_together(
    stored: Callable[[Any], Any],
) -> None:
    net, scaler = Net([1.0]), Net([2.0])
    found = stored({"net": net, "scaler": scaler, "labels": ["a", "b"], "cut": 0.5})
    assert (found["net"].weights, found["scaler"].weights) == ([1.0], [2.0])
    assert (found["labels"], found["cut"]) == (["a", "b"], 0.5)


def test_a_class_of_the_projects_own_comes_back_as_that(stored: Callable[[Any], Any]) -> None:
    found = stored(Bundle(Net([1.0]), ("a", "b")))
    assert type(found) is Bundle
    assert (found.net.weights, found.labels) == ([1.0], ("a", "b"))


def test_what_stands_twice_is_saved_once_and_shared(
    models: LoadedModels, store: BlobStore, stored: Callable[[Any], Any]
) -> None:
    net = Net([1.0])
    found = stored({"a": net, "b": (net, Bundle(net, ()))})
    assert found["a"] is found["b"][0] is found["b"][1].net
    digest = models.save(Model("m", {"a": net, "b": net}))["digest"]
    assert sorted(store.folder(digest).files) == ["0/net.json", MANIFEST]


def test_files_never_have_names_from_an_authors_keys(
    models: LoadedModels, store: BlobStore
) -> None:
    digest = models.save(Model("m", {"../../etc": Net([1.0]), "a/b": {"..": Net([2.0])}}))["digest"]
    assert sorted(store.folder(digest).files) == ["0/net.json", "1/net.json", MANIFEST]


def test_a_bare_value_has_the_format_of_its_plugin_alone(
    models: LoadedModels, store: BlobStore
) -> None:
    saved = models.save(Model("m", Net([1.0])))
    assert saved["format"] == "net"
    assert list(store.folder(saved["digest"]).files) == ["net.json"]


@pytest.mark.parametrize("value", [3, "text", [1, 2], None, {"a": None}], ids=repr)
def test_plain_values_are_models_too(value: Any, stored: Callable[[Any], Any]) -> None:
    assert stored(value) == value


def test_a_folder_beside_a_net_comes_back_as_a_path(
    stored: Callable[[Any], Any], tmp_path: Path
) -> None:
    """mlflow/mlflow#6180: artifacts that a model needs have to travel with it."""
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "vocab.txt").write_text("a\nb\n")
    found = stored({"net": Net([1.0]), "words": tmp_path / "words"})
    assert (found["words"] / "vocab.txt").read_text() == "a\nb\n"
    assert found["words"] != tmp_path / "words"


def test_a_path_is_there_while_its_version_is_held(models: LoadedModels, tmp_path: Path) -> None:
    places, folder = [], tmp_path / "models"
    for version in (1, 2):
        (tmp_path / "file").write_text(str(version))
        saved = models.save(Model("m", tmp_path / "file"))
        models.put(ModelRef(name="m", version=version, **saved))
        places.append(Path(str(models.injected({"model": "m"})["model"])))
    gc.collect()
    sweep(folder)
    assert [place.exists() for place in places] == [False, True]


# --- what a run does to it -------------------------------------------------------------------


def value_of(models: LoadedModels) -> Any:
    return models.as_stored({"model": "m"})["model"]


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["net"].weights.append(5),
        lambda value: value["labels"].append("c"),
        lambda value: value.update(cut=1),
        lambda value: value.update(net=Net([1.0])),
        lambda value: value.update(more=Unknown()),
        lambda value: value["bundle"].net.weights.clear(),
    ],
)
def test_a_structure_that_a_task_has_changed_is_loaded_anew(
    models: LoadedModels, change: Callable[[Any], Any]
) -> None:
    value = {"net": Net([1.0]), "labels": ["a"], "bundle": Bundle(Net([3.0]), ())}
    models.put(ModelRef(name="m", version=1, **models.save(Model("m", value))))
    first = value_of(models)
    assert value_of(models) is first, "it was only used"
    change(first)
    again = value_of(models)
    assert again is not first
    assert (again["net"].weights, again["labels"], set(again)) == ([1.0], ["a"], set(value))


# --- what cannot be saved --------------------------------------------------------------------


def test_each_part_that_nobody_saves_is_named_by_its_place_and_class(
    files: ModelFiles, tmp_path: Path
) -> None:
    value = {"net": Net([1.0]), "scaler": Unknown(), "deep": [Bundle(Broken([]), ())]}
    folder = tmp_path / "saved"
    folder.mkdir()
    with pytest.raises(UnsavedError) as caught:
        files.save(value, folder)
    message = str(caught.value)
    assert "value['scaler'], a " in message
    assert "test_model_files.Unknown" in message
    assert "value['deep'][0].net, a " in message
    assert "it is too wide" in message
    assert caught.value.saved == 1
    assert (folder / "0" / "net.json").exists()
    assert json.loads((folder / MANIFEST).read_text())["lost"].keys() == {
        "value['scaler']",
        "value['deep'][0].net",
    }


def test_what_was_saved_in_part_is_never_loaded(files: ModelFiles, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    with pytest.raises(UnsavedError):
        files.save([Unknown()], folder)
    with pytest.raises(FormatError, match="damaged"):
        files.load(PARTS, folder)


@pytest.mark.parametrize("name", ["parts", "file", "folder", 5])
def test_a_plugin_may_not_name_its_format_as_the_runtimes_own(
    files: ModelFiles, tmp_path: Path, name: object
) -> None:
    with pytest.raises(FormatError, match="which it may not"):
        files.save(Odd(name), tmp_path)


def test_a_full_disk_is_no_fault_of_a_part(
    files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ModelFiles, "save_part", full)
    with pytest.raises(OSError, match="No space"):
        ModelFiles.save(files, {"net": Net([1.0])}, tmp_path)


# --- what cannot be loaded -------------------------------------------------------------------


def spoilt(models: LoadedModels, store: BlobStore, tmp_path: Path, change: Any) -> ModelRef:
    """A version whose manifest is another than was saved."""
    saved = models.save(Model("m", {"net": Net([1.0])}))
    folder = tmp_path / "spoilt"
    folder.mkdir()
    store.get_folder(saved["digest"], folder)
    change(folder)
    return ModelRef(name="m", version=1, format=saved["format"], digest=store.put_folder(folder))


def edited(**members: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        document = json.loads((folder / MANIFEST).read_text()) | members
        (folder / MANIFEST).write_text(json.dumps(document))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edited(version=2), "later version"),
        (edited(more=1), "damaged"),
        (edited(parts=[]), "has no part 0"),
        (edited(parts=[{"format": 5}]), "damaged"),
        (edited(parts=[{"format": "gnu"}]), "no plugin loads models of format 'gnu'"),
        (edited(parts=[{"format": "net", "folder": ".."}]), "damaged"),
        (edited(value={"part": -1}), "has no part -1"),
        (edited(value={"part": "0/.."}), "has no part"),
        (lambda folder: (folder / MANIFEST).write_text("[" * 100_000), "damaged"),
        (lambda folder: (folder / MANIFEST).write_text('{"version": NaN}'), "damaged"),
    ],
)
def test_a_manifest_is_held_to_what_it_may_say(
    models: LoadedModels, store: BlobStore, tmp_path: Path, change: Any, message: str
) -> None:
    ref = spoilt(models, store, tmp_path, change)
    with pytest.raises(FormatError, match=message) as caught:
        models.put(ref)
    assert "model 'm'" in str(caught.value)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("spoil", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("which", ["0/net.json", MANIFEST, ""])
def test_a_blob_that_is_not_what_was_stored_is_no_model_and_what_serves_stays(
    models: LoadedModels, store: BlobStore, spoil: Callable[[Path], Any], which: str
) -> None:
    """triton-inference-server/server#6534: what served is not to be lost to what cannot."""
    models.put(ModelRef(name="m", version=1, **models.save(Model("m", [Net([1.0])]))))
    saved = models.save(Model("m", [Net([2.0])]))
    digest = store.folder(saved["digest"]).files[which] if which else saved["digest"]
    file = store.path(digest)
    assert file is not None
    spoil(file)
    with pytest.raises(FormatError, match=r"not what was stored|no longer stored"):
        models.put(ModelRef(name="m", version=2, **saved))
    assert models.versions == ["m@1"]
    assert value_of(models)[0].weights == [1.0]


# --- which libraries made it -----------------------------------------------------------------


def test_the_libraries_that_made_it_are_kept_with_it(
    models: LoadedModels, store: BlobStore
) -> None:
    class Foreign(Net, pytest.Item):
        pass

    assert provenance.libraries_of([Foreign]).keys() >= {"pytest"}
    digest = models.save(Model("m", [Net([1.0])]))["digest"]
    assert store.folder(digest).size == sum(store.folder(digest).sizes.values()) > 0


def test_a_model_of_another_version_is_told_and_tried(
    models: LoadedModels, store: BlobStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """skops-dev/skops#498: a model of another version of its library."""
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "net.json").write_text("[1.0]")
    digest = store.put_folder(tmp_path / "saved", made_with={"pytest": "0.1", "gone-lib": "2"})
    models.put(ModelRef(name="m", version=1, digest=digest, format="net"))
    told = capsys.readouterr().err
    assert f"made with pytest 0.1, this is {pytest.__version__}" in told
    assert "gone-lib 2, which is not installed here" in told


def test_one_that_cannot_be_loaded_says_of_which_version_it_was(
    models: LoadedModels, store: BlobStore, tmp_path: Path
) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "net.json").write_text("no json")
    digest = store.put_folder(tmp_path / "saved", made_with={"pytest": "0.1"})
    with pytest.raises(FormatError, match=r"model 'm'; made with pytest 0\.1, this is"):
        models.put(ModelRef(name="m", version=1, digest=digest, format="net"))
