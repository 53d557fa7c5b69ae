"""Files that cannot be loaded: told with place and way out, while everything else works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_statuses import problem
from tests.acceptance.tree import Tree, lent, project, write

GOOD = """
import skipper

@skipper.data
def double(x: int) -> int:
    return 2 * x
"""

# file → text, line, words in the error
BROKEN = {
    "syntax": ("import skipper\n\ndef f(:\n    pass\n", 3, "SyntaxError"),
    "name": ("import skipper\n\nx = np.zeros(3)\n", 3, "NameError: name 'np'"),
    "option": (
        "import skipper\n\n@skipper.data(timeuot=3)\ndef f() -> int:\n    return 1\n",
        3,
        "did you mean 'timeout'?",
    ),
    "pool": (
        "import skipper\n\n@skipper.data(pool='tpu')\ndef f() -> int:\n    return 1\n",
        3,
        "'gpu'",
    ),
    "twice": (
        GOOD + "\n@skipper.data\ndef double(x: int) -> int:\n    return x\n",
        None,
        "twice.double is defined twice",
    ),
    "hint": (
        "import socket\nimport skipper\n\n@skipper.data\ndef f(s: socket.socket) -> int: ...\n",
        4,
        "cannot come from callers",
    ),
    "starred": (
        "import skipper\n\n@skipper.data\ndef f(*numbers: int) -> int:\n    return 1\n",
        3,
        "*numbers has no schema",
    ),
    "positional": (
        "import skipper\n\n@skipper.training\ndef f(run: skipper.Run) -> int:\n    return 1\n",
        3,
        "keyword-only",
    ),
    "class_": (
        "import skipper\n\n@skipper.data\nclass Thing:\n    pass\n",
        3,
        "needs a __call__ method",
    ),
    "exits": ("import sys\nimport skipper\n\nsys.exit(1)\n", 4, "sys.exit(1)"),
    "dies": ("import os\nimport skipper\n\nos._exit(9)\n", None, "code 9"),
    "module": ("import skipper\nimport no_such_module\n", 2, "no_such_module"),
    "empty": ("import skipper\n", None, "defines no function"),
    "deep": ("import skipper\n\ndef g():\n    1 / 0\n\ng()\n", 4, "ZeroDivisionError"),
    "bytes_": ("import skipper\n\0\n", None, "null bytes"),
}


def hook(signature: str, body: str) -> str:
    """A plugin with one hook, whose body is line 5."""
    return f"import os\nimport skipper\n@skipper.hook\ndef {signature}:\n    {body}\n"


PLUGINS = {
    "raises": ("import skipper\n\nraise RuntimeError('a bad plugin')\n", 3, "a bad plugin"),
    "exits": ("import sys\n\nsys.exit(2)\n", 3, "sys.exit(2)"),
    "misspelt": (
        "import skipper\n\n@skipper.hook\ndef skipper_librarys(imports):\n    return ()\n",
        None,
        "did you mean 'skipper_libraries'?",
    ),
    "no_sources": (hook("skipper_sources(project)", "1 / 0"), 5, "ZeroDivisionError"),
    "no_libraries": (hook("skipper_libraries(imports)", "raise TypeError('3')"), 5, "TypeError: 3"),
    "no_start": (
        hook("skipper_instance_started(threads)", "raise KeyError(threads)"),
        5,
        "KeyError",
    ),
    "dies": ("import os\n\nos._exit(9)\n", None, "exited with code 9 while it was loaded"),
    "ends": (
        hook("skipper_sources(project)", "os._exit(0)"),
        None,
        "exited with code 0 while its skipper_sources ran",
    ),
}
WORKING_PLUGIN = """
import skipper
from pathlib import Path

@skipper.hook
def skipper_sources(project):
    file = project.folder / "elsewhere" / "extra.py"
    yield skipper.Source(name="extra", file=file, module="extra", origin="working")
"""


# file → words in the way out
LEFT_OUT = {
    "functions/my-model.py": "rename it my_model.py",
    "functions/2024_prices.py": "rename it prices_2024.py",
    "functions/Loud.PY": "rename it Loud.py",
    "functions/team/rates.py": "functions/",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = project(tmp_path_factory.mktemp("broken"), good=GOOD)
    for stem, (text, _, _) in BROKEN.items():
        write(folder, f"functions/{stem}.py", text)
    for stem, (text, _, _) in PLUGINS.items():
        write(folder, f"plugins/{stem}.py", text)
    write(folder, "plugins/working.py", WORKING_PLUGIN)
    write(folder, "elsewhere/extra.py", GOOD)
    write(folder, "functions/package/__init__.py", "from functions.package.inner import double\n")
    write(folder, "functions/package/inner.py", GOOD)
    write(folder, "functions/both.py", GOOD)
    write(folder, "functions/both/__init__.py", GOOD)
    for file in LEFT_OUT:
        write(folder, file, GOOD)
    write(folder, "functions/_helper.py", "raise RuntimeError('helpers are not loaded')\n")
    with lent(Tree(folder)) as tree:
        yield tree.ready()
        tree.end()


@pytest.mark.parametrize("stem", BROKEN)
def test_a_broken_file_is_told_with_its_place(tree: Tree, stem: str) -> None:
    _, line, words = BROKEN[stem]
    told = tree.broken()[f"functions/{stem}.py"]
    assert words in told["error"]
    assert line is None or told["line"] == line


@pytest.mark.parametrize("stem", PLUGINS)
def test_a_broken_plugin_is_told_with_its_place(tree: Tree, stem: str) -> None:
    _, line, words = PLUGINS[stem]
    told = tree.broken()[f"plugins/{stem}.py"]
    assert words in told["error"]
    assert line is None or told["line"] == line


def test_nothing_else_is_broken(tree: Tree) -> None:
    expected = {f"functions/{stem}.py" for stem in BROKEN} | {f"plugins/{p}.py" for p in PLUGINS}
    assert set(tree.broken()) == expected | {"functions/both.py", *LEFT_OUT}


@pytest.mark.parametrize("file", LEFT_OUT)
def test_a_file_that_is_no_source_is_told_with_a_name_that_would_do(tree: Tree, file: str) -> None:
    """microsoft/python-language-server#736"""
    told = tree.broken()[file]
    assert told["error"].startswith("it is left out: ")
    assert LEFT_OUT[file] in told["hint"]
    problem_ = problem(tree.invoke(f"{Path(file).stem}.double", {"x": 1}), 503, "function-broken")
    assert told["error"] in problem_["detail"]
    assert LEFT_OUT[file] in problem_["detail"]


def test_of_two_sources_of_one_name_one_is_served_and_the_other_told(tree: Tree) -> None:
    told = tree.broken()["functions/both.py"]
    assert "functions named both" in told["error"]
    assert "functions/both/__init__.py" in told["hint"]
    assert tree.value("both.double", {"x": 1}) == 2


@pytest.mark.parametrize("stem", BROKEN)
def test_functions_of_a_broken_file_are_unavailable(tree: Tree, stem: str) -> None:
    name = tree.broken()[f"functions/{stem}.py"]["function"] or f"{stem}.f"
    told = problem(tree.invoke(name, {}), 503, "function-broken")
    assert f"functions/{stem}.py" in told["detail"]
    assert BROKEN[stem][2] in told["detail"]
    problem(tree.get(f"/v1/functions/{name}"), 503, "function-broken")


def test_the_way_out_is_told(tree: Tree) -> None:
    assert tree.broken()["functions/name.py"]["hint"] == "add `import numpy as np`"
    assert "install" in tree.broken()["functions/module.py"]["hint"]


@pytest.mark.parametrize("name", ["good.double", "package.double", "extra.double"])
def test_everything_else_is_served(tree: Tree, name: str) -> None:
    assert tree.value(name, {"x": 4}) == 8
    assert tree.result(tree.submit(name, {"x": 4})) == 8


def test_unknown_names_stay_unknown(tree: Tree) -> None:
    problem(tree.invoke("nobody.f", {}), 404, "unknown-function")
    problem(tree.invoke("good.nobody", {}), 404, "unknown-function")


def test_the_log_names_each_broken_file_once_per_pool(tree: Tree) -> None:
    lines = [line for line in tree.output.splitlines() if "could not be loaded" in line]
    for stem in BROKEN:
        pools = [line.split()[1] for line in lines if f"functions/{stem}.py" in line]
        assert "cpu" in pools
        assert len(pools) == len(set(pools))


def test_the_tree_is_ready_all_the_same(tree: Tree) -> None:
    assert tree.get("/readyz").status_code == 200
    assert not any(child["restarts"] for child in (tree.status() or {})["children"])
