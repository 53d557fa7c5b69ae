import ast
from pathlib import Path

import pytest

from skipper.instance import source


def files(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_a_file_is_its_text_and_a_package_all_of_its_modules(tmp_path: Path) -> None:
    files(tmp_path, boston="a = 1", other="b = 2")
    assert source.read(tmp_path / "boston.py") == {tmp_path / "boston.py": b"a = 1"}
    package = files(tmp_path / "house", __init__="", price="c = 3")
    inner = files(package / "inner", deep="d = 4")
    read = source.read(package / "__init__.py")
    assert set(read) == {package / "__init__.py", package / "price.py", inner / "deep.py"}


def test_the_hash_names_the_text_not_the_place_or_the_order(tmp_path: Path) -> None:
    one, two = files(tmp_path / "one", a="x = 1", b="y = 2"), files(tmp_path / "two")
    files(two, b="y = 2", a="x = 1")
    here, there = (
        source.code_hash({folder / n: (folder / n).read_bytes() for n in ("a.py", "b.py")})
        for folder in (one, two)
    )
    assert here == there
    assert len(here) == 12
    assert set(here) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "changed",
    [
        {"a.py": b"x = 2", "b.py": b"y"},
        {"a.py": b"x", "b.py": b"y = 2"},
        {"a.py": b"y", "b.py": b"x"},
        {"a.py": b"x"},
        {"a.py": b"x", "b.py": b"y", "c.py": b""},
        {"a.py": b"x", "c.py": b"y"},
        {"a.py": b"xb.py\0y", "b.py": b""},
    ],
)
def test_any_change_of_the_text_changes_the_hash(changed: dict[str, bytes]) -> None:
    def hashed(texts: dict[str, bytes]) -> str:
        return source.code_hash({Path(name): text for name, text in texts.items()})

    assert hashed(changed) != hashed({"a.py": b"x", "b.py": b"y"})


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
