"""Callers reach the files and models of a project by functions that it asked for, and by no other.

What a path may be is tested in tests/unit/plugins/test_table.py; here, that a tree keeps to it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.tree import Tree, project
from tests.security.conftest import Grow

FUNCTIONS = ("tabular.prepare", "tabular.train", "tabular.predict")
SECRET = "a,b\nSESAME,2\nSESAME,4\n"


@pytest.mark.parametrize("prefer", ["", "respond-async", "wait=5"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_without_a_table_no_such_function_is_there(name: str, prefer: str, attacked: Tree) -> None:
    body = {"csv": "a,b\n1,2\n", "target": "a", "rows": []}
    headers = {"prefer": prefer} if prefer else {}
    assert attacked.invoke(name, body, **headers).status_code == 404
    assert attacked.get(f"/v1/functions/{name}").status_code == 404
    assert "tabular" not in attacked.get("/v1/functions").text + attacked.get("/openapi.json").text


def test_without_a_table_models_of_scikit_learn_are_kept_and_served(attacked: Tree) -> None:
    assert attacked.result(attacked.submit("kept.train", {}))["name"] == "line"
    assert attacked.value("kept.ask", {"x": 2.0}) == 5.0


def test_with_a_table_only_its_folder_is_read(tmp_path: Path, grow: Grow) -> None:
    folder = project(tmp_path / "tables", "[plugins.tabular]\nfolder = 'in'\n")
    (folder / "in").mkdir()
    (folder / "in" / "t.csv").write_text("a,b\n1,2\n3,4\n")
    (folder / "in" / "link.csv").symlink_to(folder / "out.csv")
    (folder / "out.csv").write_text(SECRET)
    tree = grow(folder, "--only", "gateway,pool:cpu").start()
    tree.wait_for_functions()
    assert tree.value("tabular.prepare", {"csv": "t.csv"})["rows"] == 2
    for path in ("out.csv", "../out.csv", "link.csv", str(folder / "out.csv"), "t.csv\0"):
        refused = tree.invoke("tabular.prepare", {"csv": path})
        assert refused.status_code == 422, path
        assert "SESAME" not in refused.text
        assert str(folder) not in refused.text.replace(path, "")
    named = tree.invoke("tabular.train", {"csv": "t.csv", "target": "a", "name": "houses"})
    assert (named.status_code, "no model of this name" in named.text) == (422, True)
