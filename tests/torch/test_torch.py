"""Modules of PyTorch as models. Run by `make test-torch`, in an environment that has it."""

import importlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skipper_torch
from skipper.errors import FormatError
from skipper.function.model import Model
from skipper.instance.models import LoadedModels
from tests.security.mutations.decoders import mutant

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
Stored = Callable[[Any], Any]
OWN = """
import torch

class Net(torch.nn.Module):
    def __init__(self, hidden=4, *, tied=False):
        super().__init__()
        self.first = torch.nn.Linear(3, hidden)
        self.norm = torch.nn.BatchNorm1d(hidden)
        self.last = torch.nn.Linear(hidden, 3)
        if tied:  # two names for the same weights
            self.last.weight = torch.nn.Parameter(self.first.weight.T.contiguous().clone())
            self.again = self.last

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))

def make(sizes):
    return torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])))

def wrong():
    return 5
"""
FILES = {
    "functions/_own.py": OWN,
    "functions/train.py": "import skipper\nfrom functions import _own\nskipper.Model('m', _own)\n",
    "functions/serve.py": "import skipper\nskipper.Loaded('m')\n",
}
X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


@pytest.fixture
def own(project: Callable[..., None]) -> Any:
    project(FILES, "functions/serve.py")
    return importlib.import_module("functions._own")


def answer(module: Any, kind: Any = torch.float32) -> Any:
    with torch.no_grad():
        return module(torch.tensor(X, dtype=kind))


@pytest.mark.parametrize("given", [{}, {"hidden": 7}, {"tied": True}])
@pytest.mark.parametrize("kind", ["float32", "float64", "bfloat16"])
def test_a_module_comes_back_with_its_weights(
    own: Any, stored: Stored, given: dict[str, Any], kind: str
) -> None:
    net = own.Net(**given).to(getattr(torch, kind))
    net(torch.tensor(X, dtype=getattr(torch, kind)))  # the norm learns
    net.eval()

    again = stored(skipper_torch.Weights(net, own.Net, **given))
    assert torch.equal(answer(again, getattr(torch, kind)), answer(net, getattr(torch, kind)))
    assert type(again) is own.Net
    assert not again.training


def test_a_function_of_the_project_makes_one(own: Any, stored: Stored) -> None:
    net = own.make([3, 4, 2])

    assert torch.equal(
        answer(stored(skipper_torch.Weights(net, own.make, sizes=[3, 4, 2]))), answer(net)
    )


def test_so_does_a_class_of_torch(stored: Stored) -> None:
    net = torch.nn.Linear(3, 2)
    weights = skipper_torch.Weights(net, torch.nn.Linear, in_features=3, out_features=2)

    assert torch.equal(answer(stored(weights)), answer(net))


def test_weights_that_are_no_numbers_are_kept(own: Any, stored: Stored) -> None:
    net = own.Net().eval()
    net.last.weight.data[:] = torch.nan

    assert answer(stored(skipper_torch.Weights(net, own.Net))).isnan().all()


def test_the_state_tells_whether_a_module_has_been_changed(own: Any, stored: Stored) -> None:
    net = stored(skipper_torch.Weights(own.Net(), own.Net))
    state = skipper_torch.skipper_model_state(format="torch", model=net)

    answer(net)
    assert skipper_torch.skipper_model_state(format="torch", model=net) == state
    net.last.bias.data += 1
    assert skipper_torch.skipper_model_state(format="torch", model=net) != state


def _refused(own: Any) -> dict[str, tuple[Any, str]]:
    net, weights = own.Net(), skipper_torch.Weights
    program = torch.export.export(net.eval(), (torch.tensor(X),))
    return {
        "a bare module": (net, r"return skipper_torch\.Weights\(module, factory"),
        "a program": (program, "a program of torch.export is not kept"),
        "another shape": (weights(net, own.Net, hidden=9), "makes no module that takes these"),
        "another module": (
            weights(net, own.make, sizes=[3, 2]),
            "makes no module that takes these",
        ),
        "no module": (weights(net, own.wrong), "made a int, no module"),
        "an argument": (weights(net, own.Net, hidden=object()), "is no plain value"),
        "nobody's": (weights(net, lambda: net), "is of no file of this project"),
        "a function of torch": (weights(net, torch.load), "is of no file of this project"),
    }


REFUSED = (
    "a bare module",
    "a program",
    "another shape",
    "another module",
    "no module",
    "an argument",
    "nobody's",
    "a function of torch",
)


@pytest.mark.parametrize("what", REFUSED)
def test_what_could_not_be_loaded_is_refused(
    own: Any, loaded_models: LoadedModels, what: str
) -> None:
    value, told = _refused(own)[what]
    with pytest.raises(FormatError, match=told):
        loaded_models.save(Model("sample", value))


@pytest.mark.parametrize(
    "factory", [["os", "system"], ["torch", "load"], ["torch.nn.modules.linear", "torch"]]
)
def test_a_forged_factory_is_not_called(tmp_path: Path, factory: list[str]) -> None:
    linear = torch.nn.Linear
    weights = skipper_torch.Weights(linear(3, 2), linear, in_features=3, out_features=2)
    skipper_torch.skipper_save_model(value=weights, folder=tmp_path)
    (tmp_path / "made_by.json").write_text(json.dumps({"factory": factory, "arguments": {}}))

    with pytest.raises(FormatError, match="which the model names, is"):
        skipper_torch.skipper_load_model(format="torch", folder=tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "made_by.json"])
def test_what_is_nearly_sound_is_loaded_or_refused(tmp_path: Path, name: str) -> None:
    linear = torch.nn.Linear
    weights = skipper_torch.Weights(linear(3, 2), linear, in_features=3, out_features=2)
    skipper_torch.skipper_save_model(value=weights, folder=tmp_path)
    file, rng, refused = tmp_path / name, random.Random(7), 0
    sound = file.read_bytes()
    for _ in range(1000):
        file.write_bytes(mutant(rng, sound))
        try:
            skipper_torch.skipper_load_model(format="torch", folder=tmp_path)
        except FormatError:
            refused += 1
    assert 0 < refused < 1000
    file.unlink()
    with pytest.raises(FormatError, match="cannot be loaded"):
        skipper_torch.skipper_load_model(format="torch", folder=tmp_path)
