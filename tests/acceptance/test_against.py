"""``skipper check``: what is wrong with a project, and what would break the callers of a tree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.acceptance.tree import CPU_ALONE, LIMIT_S, Tree, lent, project, write

OLD = """
import skipper
from pydantic import BaseModel

class House(BaseModel):
    rooms: float

@skipper.inference
def predict(house: House) -> float:
    return house.rooms

@skipper.data
def total(x: float) -> float:
    return x

@skipper.data
def gone() -> int:
    return 1

@skipper.data
def _own(x: int) -> int:
    return x
"""
NEW = """
import skipper
from pydantic import BaseModel

class House(BaseModel):
    rooms: float

@skipper.inference
def predict(house: House, premium: bool = False) -> float:
    return house.rooms

@skipper.data(mode="task")
def total(x: float, y: float = 1) -> float:
    return x
"""


def check(tree: Tree, folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and what is told as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "skipper", "check", "--json", "--project", str(folder), *more],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=tree.environment() | {"SKIPPER_API_KEY": "a-key-of-the-test"},
    )
    assert done.stdout, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, told


def test_what_would_break_callers_of_a_running_tree_is_told_before(tmp_path: Path) -> None:
    """fastapi/fastapi#896: a second parameter changes what the first one's callers must send."""
    toml = '[gateway]\nkeys = ["a-key-of-the-test"]\n'
    served = project(tmp_path / "served", toml, boston=OLD)
    mine = project(tmp_path / "mine", boston=OLD)
    tree = Tree(served, *CPU_ALONE)
    tree.key = "a-key-of-the-test"
    with lent(tree):
        tree.ready()
        assert check(tree, mine, "--against", tree.url) == (
            0,
            {"functions": 4, "broken": [], "changes": []},
        )
        write(mine, "functions/boston.py", NEW)
        assert check(tree, mine)[0] == 0
        code, told = check(tree, mine, "--against", tree.url, "--verbose")
        assert code == 3
        assert {(c["function"], c["pointer"], c["text"], c["breaks"]) for c in told["changes"]} == {
            (
                "boston.predict",
                "",
                "asks for an object of parameters: what was the body is its member `house`",
                True,
            ),
            ("boston.total", "", "answers with a task", True),
            ("boston.total", "/y", "takes `y`, too", False),
            ("boston.gone", "", "is gone", True),
        }
        write(mine, "functions/boston.py", NEW + "\n1 / 0\n")
        code, told = check(tree, mine, "--against", tree.url)
        assert (code, told["changes"]) == (3, [])
        assert told["broken"][0]["file"] == "functions/boston.py"
        tree.end()
