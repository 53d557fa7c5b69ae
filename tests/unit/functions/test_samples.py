"""The samples as the runtime sees and runs them, in this process."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pydantic import ValidationError

import skipper
from skipper.blobs import BlobStore
from skipper.instance import loader
from skipper.instance.jobs import Job, JobKind, ModelRef, SourceInfo
from skipper.instance.models import LoadedModels
from skipper.instance.plugins import Plugins
from tests.unit.plugins.stand_in import KeptEvents, survey

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def sources() -> dict[str, SourceInfo]:
    report = survey(REPOSITORY)
    assert report.broken == ()
    return {source.name: source for source in report.sources}


def _served(model: skipper.Model, folder: Path) -> Any:
    """The model as an instance gets it: through the store."""
    models = LoadedModels(
        BlobStore(str(folder / "blobs")),
        Plugins(folder / "none"),
        tmp_dir=folder / "tmp",
        models_dir=folder / "models",
    )
    models.put(ModelRef(name=model.name, version=1, **models.save(model)))
    return models.injected({"model": model.name})["model"]


def _answer(function: Any, body: Any, model: Any) -> Any:
    kwargs = function.signature.parse(json.dumps(body).encode())
    if "batch" not in function.options:
        return json.loads(function.signature.dump(function(**kwargs, model=model)))
    [value] = function(**{name: [one] for name, one in kwargs.items()}, model=model)
    return json.loads(function.signature.dump(value))


def test_their_templates_hold_tensorflow_and_nothing_of_the_project(
    sources: dict[str, SourceInfo],
) -> None:
    assert {"keras", "numpy", "tensorflow"} <= set(sources["boston"].libraries)
    assert not {"skipper_tensorflow", "functions", "data"} & set(sources["boston"].libraries)
    assert not any(name.startswith("sklearn") for name in sources["boston"].libraries)
    assert sources["boston"].pools == ("cpu",)
    assert sources["digits"].pools == ("gpu",)


@pytest.mark.usefixtures("boston", "digits")
@pytest.mark.parametrize("name", ["boston", "digits"])
def test_every_function_declares_its_schema(name: str, sources: dict[str, SourceInfo]) -> None:
    source, pools = sources[name], ("cpu", "gpu")
    job = Job(kind=JobKind.READ, project_dir=REPOSITORY, source=source, pools=pools)

    texts = loader.texts_of(loader.project_of(REPOSITORY), source)
    report = loader.read(job, Plugins(Path("/none")), texts)
    specs = {spec.name: spec for spec in report.specs}

    assert specs[f"{name}.train"].kind == "training"
    assert specs[f"{name}.predict"].models == (name,)
    assert specs[f"{name}.predict"].output_schema["type"] == "object"


def test_boston_parts_all_rows_once_and_the_same_way_each_time(boston: ModuleType) -> None:
    table = boston.prepare(split=0.25, seed=3)

    assert (len(table["train"]["x"]), len(table["test"]["x"])) == (380, 126)
    assert len(table["train"]["x"][0]) == len(boston.House.model_fields) == 12
    prices = table["train"]["y"] + table["test"]["y"]
    assert np.mean(prices) == pytest.approx(22.533, abs=0.001)
    assert boston.prepare(split=0.25, seed=3) == table
    assert boston.prepare(split=0.25, seed=4) != table


def test_boston_has_no_input_that_encodes_race(boston: ModuleType) -> None:
    assert "b" not in boston.House.model_fields
    with pytest.raises(ValidationError, match="Extra inputs"):
        boston.predict.signature.parse(b'{"b": 396.9}')


def test_a_field_left_out_is_the_median(boston: ModuleType) -> None:
    table = boston.prepare(split=0.5)
    medians = np.median(table["train"]["x"] + table["test"]["x"], axis=0)

    np.testing.assert_allclose(list(boston.House().model_dump().values()), medians, rtol=0.01)


def test_boston_trains_and_answers(boston: ModuleType, tmp_path: Path) -> None:
    kept = KeptEvents()

    model = boston.train(epochs=12, run=kept.run)

    assert (model.name, model.metrics["rows_held_out"]) == ("boston", 101)
    assert model.metrics["rmse"] < 5  # always answering the mean: 9
    assert [event["done"] for event in kept.progress] == list(range(1, 13))
    assert {"loss", "val_loss"} <= kept.progress[0].keys()

    served = _served(model, tmp_path)
    small, large = (_answer(boston.predict, {"rm": rm}, served)["price"] for rm in (5, 8))
    assert 5 < small < large < 60
    assert _answer(boston.predict, {}, served) == _answer(boston.predict, {}, model.value)


def test_a_cancelled_training_makes_no_model(boston: ModuleType) -> None:
    kept = KeptEvents()
    kept.cancel_after = 1

    with pytest.raises(skipper.Cancelled):
        boston.train(epochs=50, run=kept.run)
    assert len(kept.progress) == 1


@pytest.mark.parametrize("body", [b'{"rm": "many"}', b'{"rm": -1}', b'{"rm": 1e999}', b"[]"])
def test_boston_refuses_what_is_no_house(boston: ModuleType, body: bytes) -> None:
    with pytest.raises(ValidationError):
        boston.predict.signature.parse(body)


def test_digits_trains_and_answers(digits: ModuleType, tmp_path: Path) -> None:
    kept = KeptEvents()

    model = digits.train(epochs=3, run=kept.run)

    assert model.metrics["accuracy"] > 0.8
    assert len(kept.progress) == 3
    images, labels = digits.load_digits(return_X_y=True)
    served = _served(model, tmp_path)
    answers = [
        _answer(digits.predict, {"image": image.reshape(8, 8).tolist()}, served)
        for image in images[:20]
    ]
    assert (
        sum(answer["digit"] == label for answer, label in zip(answers, labels, strict=False)) > 14
    )
    assert all(0 < answer["probability"] <= 1 for answer in answers)


def test_digits_sees_a_picture_as_it_sees_its_pixels(digits: ModuleType) -> None:
    images, labels = digits.load_digits(return_X_y=True)
    seven = PIL.Image.open(REPOSITORY / "functions" / "data" / "7.png")
    small = digits.predict.signature.takes["image"].accepted(seven)
    found = digits.pixels(small)
    assert (found.shape, found.dtype) == ((8, 8), np.float32)
    distances = np.abs(images.reshape(-1, 8, 8) - found).mean(axis=(1, 2))
    assert labels[distances.argmin()] == 7
    np.testing.assert_array_equal(digits.pixels([[16] * 8] * 8), np.full((8, 8), 16))
    white = PIL.Image.new("L", (8, 8), 255)
    np.testing.assert_array_equal(digits.pixels(white), np.zeros((8, 8)))


@pytest.mark.parametrize(
    "image", [[], [[0] * 8] * 7, [[0] * 7] * 8, [[17] * 8] * 8, [[None] * 8] * 8]
)
def test_digits_refuses_what_is_no_image(digits: ModuleType, image: Any) -> None:
    with pytest.raises(ValidationError):
        digits.predict.signature.parse(json.dumps({"image": image}).encode())
