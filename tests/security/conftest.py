"""The trees that attacks are tried on. What leaves anything behind gets a tree of its own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import PLAIN, Grow, gate, grow, pytest_runtest_makereport
from tests.acceptance.tree import Tree, lent, project, write
from tests.security.raw import Raw

__all__ = ["Grow", "attacked", "connect", "gate", "grow", "pytest_runtest_makereport"]

APP = "https://app.example.com"
"""The origin whose pages the trees that are not :func:`attacked` let in."""
KEYS = ("first-key-0123456789", "second-key-0123456789")
LEAKY = {
    "leaky": """
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

import skipper

HERE = Path(__file__).parent


@skipper.data
def reads() -> str:
    return (HERE / "no-such-file.csv").read_text()


@skipper.data
def nests() -> str:
    return reads.remote()


@skipper.data
def streams() -> Iterator[str]:
    yield "first"
    (HERE / "no-such-file.csv").read_text()


@skipper.inference(batch=4)
def batches(x: list[int]) -> list[Any]:
    return [n if n else FileNotFoundError(2, "No", str(HERE / "x")) for n in x]


@skipper.training(retries=1, backoff=0.01)
def trains() -> None:
    print("it begins")
    reads()


def _there(name: str) -> str:
    if not (HERE / name).exists():
        raise ValueError(f"{HERE / name} is not there")
    return name


@skipper.data
def validates(name: Annotated[str, AfterValidator(_there)]) -> str:
    return name


@skipper.inference
def predicts(*, model: Annotated[dict, skipper.Loaded("never-trained")]) -> int:
    return len(model)
""",
    "broken": "import skipper\n\n\n\nopen(__file__ + '-gone')\n",
    "half": "import skipper\n\n@skipper.data\ndef f(:\n",
    "imports": "import skipper\nfrom functions.bodies import nothing\n",
}
"""Files of functions that fail with a path of the project in what they raise."""
KEPT = """
from typing import Annotated, Any

import skipper
from sklearn.linear_model import LinearRegression


@skipper.training
def train() -> skipper.Model:
    return skipper.Model("line", LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]))


@skipper.inference
def ask(x: float, *, model: Annotated[Any, skipper.Loaded("line")]) -> float:
    return round(float(model.predict([[x]])[0]), 6)
"""
"""A function with a model of scikit-learn's, in a project without a table of tabular's."""
CROSSES = """
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

import skipper

FOLDER = Path(tempfile.mkdtemp())


@skipper.data
def size(data: bytes, label: str = "", n: int = 0, items: list[int] = []) -> int:
    return len(data)


@skipper.data(max_input="1MB")
def small(file: skipper.File) -> dict[str, object]:
    return {"name": file.name, "media_type": file.media_type, "size": file.size}


@skipper.data
def back(file: skipper.File) -> skipper.File:
    return file


@skipper.data
def page(media_type: str, name: str, size: int = 5) -> skipper.File:
    path = FOLDER / "page"
    path.write_bytes(b"<svg>" * (size // 5))
    half = chr(0xDC80)
    return skipper.File(path, name=name + half, media_type=media_type.replace("half", half))


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float


class Square(BaseModel):
    kind: Literal["square"]
    side: int


@skipper.data
def area(figure: Annotated[Circle | Square, Field(discriminator="kind")]) -> float:
    return figure.side**2 if isinstance(figure, Square) else 3 * figure.radius**2


@skipper.data(mode="task")
def keeps(file: skipper.File) -> skipper.File:
    return file
"""
"""Functions that take and give more than JSON."""
_PARTS = ("--only", "broker,gateway,pool:cpu")

Connect = Callable[..., Raw]
"""Opens a connection to a tree's gateway: its URL, and what :class:`Raw` takes."""


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A keyless tree of the acceptance tests' functions, which must stand whatever is sent."""
    folder = tmp_path_factory.mktemp("attacked") / "project"
    shutil.copytree(PLAIN, folder, ignore=shutil.ignore_patterns("__pycache__"))
    write(folder, "functions/kept.py", KEPT)
    write(folder, "functions/crosses.py", CROSSES)
    with lent(Tree(folder)) as tree:
        yield tree.ready()
        assert "Traceback" not in tree.output
        tree.end()


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree without keys for any account of the machine, under names of its own, too."""
    toml = f"""
[gateway]
local = "anyone"
allowed_hosts = ["*.skipper.test"]
cors_origins = ["{APP}"]
"""
    folder = tmp_path_factory.mktemp("public") / "project"
    with _served(folder, toml, bodies=_plain("bodies"), **LEAKY) as tree:
        yield tree


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree beyond loopback with two keys, which asks with the first of them.

    Neither is told by anything.
    """
    toml = f"""
[gateway]
host = "0.0.0.0"
keys = ["{KEYS[0]}", "{KEYS[1]}"]
cors_origins = ["{APP}"]
"""
    folder = tmp_path_factory.mktemp("locked") / "project"
    with _served(folder, toml, bodies=_plain("bodies"), **LEAKY) as tree:
        yield tree
        assert not any(key in tree.output for key in KEYS)


def _plain(stem: str) -> str:
    return (PLAIN / "functions" / f"{stem}.py").read_text("utf-8")


@contextlib.contextmanager
def _served(folder: Path, toml: str, **files: str) -> Iterator[Tree]:
    with lent(Tree(project(folder, toml, **files), *_PARTS)) as tree:
        tree.key = KEYS[0]
        tree.start().wait_for_functions()
        yield tree
        tree.end()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connections that end with the test."""
    opened: list[Raw] = []

    def open_one(tree: Tree, **more: int) -> Raw:
        opened.append(Raw(tree.url, **more))
        return opened[-1]

    yield open_one
    for raw in opened:
        raw.close()
