import ast
from pathlib import Path

import pytest

from skipper.instance import source
from skipper.instance.jobs import ModuleText


def texts(**named: bytes) -> list[ModuleText]:
    return [
        ModuleText(name=name, file=Path(f"{name}.py"), text=text) for name, text in named.items()
    ]


def test_the_hash_names_the_text_not_the_place_or_the_order() -> None:
    here, there = texts(a=b"x = 1", b=b"y = 2"), texts(b=b"y = 2", a=b"x = 1")
    elsewhere = [each.model_copy(update={"file": Path("/else/where.py")}) for each in there]
    code = source.code_hash(here)
    assert code == source.code_hash(there) == source.code_hash(elsewhere)
    assert len(code) == 12
    assert set(code) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "changed",
    [
        {"a": b"x = 2", "b": b"y"},
        {"a": b"x", "b": b"y = 2"},
        {"a": b"y", "b": b"x"},
        {"a": b"x"},
        {"a": b"x", "b": b"y", "c": b""},
        {"a": b"x", "c": b"y"},
        {"a": b"xb\x001\0y", "b": b""},
    ],
)
def test_any_change_of_a_text_or_a_name_changes_the_hash(changed: dict[str, bytes]) -> None:
    assert source.code_hash(texts(**changed)) != source.code_hash(texts(a=b"x", b=b"y"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import a, b.c", {"a", "b.c"}),
        ("from a import b, c as d", {"a", "a.b", "a.c"}),
        ("from . import b", {"functions", "functions.b"}),
        ("from .b import c", {"functions.b", "functions.b.c"}),
        ("def f():\n  import a", {"a"}),
        ("class C:\n  def f(self):\n    from a import b", {"a", "a.b"}),
        ("try:\n  import a\nexcept ImportError:\n  import b", {"a", "b"}),
        ("if TYPE_CHECKING:\n  import a\nelse:\n  import b", {"b"}),
        ("importlib.import_module('a.b')", {"a.b"}),
        ("import_module('.b', __package__)", {"functions.b"}),
        ("x = __import__('a')", {"a"}),
        ("from a import *", {"a", "a.*"}),
        ("x = 1", set()),
    ],
)
def test_what_a_module_imports_is_found_wherever_it_stands(text: str, names: set[str]) -> None:
    found = source.imported_by(ast.parse(text), "functions")
    assert set(found.names) == names
    assert not found.is_open


@pytest.mark.parametrize(
    "text", ["import_module(name)", "i.import_module(f'a.{b}')", "__import__(x)"]
)
def test_a_name_that_is_made_while_it_runs_is_one_of_any(text: str) -> None:
    assert source.imported_by(ast.parse(text), "functions").is_open


def test_a_relative_import_counts_from_the_package() -> None:
    tree = ast.parse("from .. import a\nfrom ..b import c")
    names = {"functions", "functions.a", "functions.b", "functions.b.c"}
    assert source.imported_by(tree, "functions.house").names == names


@pytest.mark.parametrize(
    ("text", "imports"),
    [
        ("import numpy", {"numpy"}),
        ("import numpy as np, pandas.io", {"numpy", "pandas.io"}),
        ("from sklearn.linear_model import Ridge", {"sklearn.linear_model"}),
        ("import json, os.path\nfrom collections import abc", set()),
        ("import skipper\nfrom skipper.errors import CallError", set()),
        ("from functions.boston import predict\nfrom . import a\nfrom .b import c", set()),
        ("def f():\n  import torch", set()),
        ("async def f():\n  import torch", set()),
        ("try:\n  import torch\nexcept ImportError:\n  import jax", {"torch", "jax"}),
        ("try:\n  pass\nfinally:\n  import jax", {"jax"}),
        ("with quiet():\n  import keras", {"keras"}),
        ("if x:\n  import a\nelif y:\n  import b\nelse:\n  import c", {"a", "b", "c"}),
        ("if TYPE_CHECKING:\n  import keras\nelse:\n  import jax", {"jax"}),
        ("import typing\nif typing.TYPE_CHECKING:\n  import keras", set()),
        ("", set()),
    ],
)
def test_what_loading_the_file_imports_is_found(text: str, imports: set[str]) -> None:
    assert source.imports_of([ast.parse(text)]) == imports


def test_the_imports_of_a_package_are_those_of_all_its_modules() -> None:
    trees = [ast.parse("import numpy"), ast.parse("import pandas")]
    assert source.imports_of(trees) == {"numpy", "pandas"}


HEAD = "import skipper\nfrom skipper import data as d, training\nimport skipper as sk\n"
F = "\ndef f(): ...\n"


@pytest.mark.parametrize(
    ("text", "pools"),
    [
        ("@skipper.data" + F, ("cpu",)),
        ("@skipper.inference(batch=8)" + F, ("cpu",)),
        ("@skipper.inference(pool='gpu')" + F, ("gpu",)),
        ("@skipper.data" + F + "@skipper.training(pool='gpu')" + F, ("cpu", "gpu")),
        ("@d" + F + "@training(pool='gpu', timeout=3)" + F, ("cpu", "gpu")),
        ("@sk.data(pool='gpu')" + F, ("gpu",)),
        ("@skipper.data(pool='gpu')\nclass C: ...", ("gpu",)),
        ("@skipper.data(pool='gpu')\nasync def f(): ...", ("gpu",)),
        ("@wraps(x)\n@skipper.data(pool='gpu')" + F, ("gpu",)),
        ("if x:\n  @skipper.data(pool='gpu')\n  def f(): ...", ("gpu",)),
        ("@skipper.data(pool=POOL)" + F, None),
        ("@skipper.data(pool='g' + 'pu')" + F, None),
        ("@skipper.data(**options)" + F, None),
        ("on_gpu = skipper.data(pool='gpu')\n@on_gpu" + F, None),
        ("@skipper.data" + F + "g = skipper.data(pool='gpu')(h)", None),
        ("def f(): ...", None),
        ("@other.data" + F, None),
    ],
)
def test_pools_are_found_where_the_text_alone_shows_them(
    text: str, pools: tuple[str, ...] | None
) -> None:
    assert source.pools_of([ast.parse(HEAD + text)], ("cpu", "gpu")) == pools


def test_a_pool_that_is_not_known_is_left_to_whoever_reads_the_file() -> None:
    trees = [ast.parse(HEAD + "@skipper.data(pool='big')" + F)]
    assert source.pools_of(trees, ("cpu", "big")) == ("big",)
    assert source.pools_of(trees, ("cpu", "gpu")) is None


def test_one_module_that_does_not_show_its_pools_leaves_the_packages_unknown() -> None:
    plain, odd = HEAD + "@skipper.data" + F, HEAD + "@skipper.data(pool=POOL)" + F
    assert source.pools_of([ast.parse(plain), ast.parse("x = 1")], ["cpu"]) == ("cpu",)
    assert source.pools_of([ast.parse(plain), ast.parse(odd)], ["cpu"]) is None
