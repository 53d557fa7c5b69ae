"""Tables of plugins: taken in their own instances, checked there, and shown nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.tree import Tree, lent, project, until, write

TOML = """
[run]
reload = false

[plugins.vault]
url = "https://vault.example.com"
token = "SESAME-1"

[plugins.strict]
limit = "SESAME-2"
token = "SESAME-3"

[plugins.valt]
token = "SESAME-4"
"""
VAULT = """
import skipper

settings = {}


@skipper.hook
def skipper_settings(settings):
    globals()["settings"].update(settings)


@skipper.hook
def skipper_sources(project):
    assert "vault" in project.set_up
    file = project.folder / "elsewhere" / "kept.py"
    yield skipper.Source(name="kept", file=file, module="elsewhere.kept", origin="vault")
"""
STRICT = """
import pydantic
import skipper


class Settings(pydantic.BaseModel):
    limit: int


@skipper.hook
def skipper_settings(settings):
    Settings.model_validate(settings)


@skipper.hook
def skipper_sources(project):
    file = project.folder / "elsewhere" / "refused.py"
    yield skipper.Source(name="refused", file=file, module="elsewhere.refused", origin="strict")
"""
KEPT = """
import skipper
import vault

assert vault.settings, "a file is read with its plugin's settings"


@skipper.data
def look() -> dict[str, str]:
    return vault.settings
"""
REFUSED = """
import skipper


@skipper.data
def look() -> int:
    return 1
"""
PLAIN = """
import sys

import skipper


@skipper.data
def look() -> dict[str, str]:
    return sys.modules["vault"].settings
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = project(tmp_path_factory.mktemp("tables"), TOML, plain=PLAIN)
    files = {
        "plugins/vault.py": VAULT,
        "plugins/strict.py": STRICT,
        "elsewhere/kept.py": KEPT,
        "elsewhere/refused.py": REFUSED,
    }
    for name, text in files.items():
        write(folder, name, text)
    with lent(Tree(folder, SKIPPER_PLUGINS_VAULT_ROOT_KEY="SESAME-5")) as tree:
        yield tree.ready()
        tree.end()


def test_the_input_of_a_plugins_task_is_checked_where_its_settings_are(tree: Tree) -> None:
    accepted = tree.invoke("kept.look", {}, prefer="respond-async")
    assert (accepted.status_code, accepted.json()["checked"]) == (202, True)


def test_a_plugins_functions_have_its_settings_and_nobody_elses_do(tree: Tree) -> None:
    table = {
        "url": "https://vault.example.com",
        "token": "SESAME-1",
        "root_key": "SESAME-5",
    }
    assert tree.value("kept.look") == tree.result(tree.submit("kept.look")) == table
    assert tree.value("plain.look") == {}


def test_what_a_plugin_refuses_is_told_with_its_setting(tree: Tree) -> None:
    (broken,) = tree.json("/v1/functions")["broken"]
    assert broken["file"] == "elsewhere/refused.py"
    assert "plugins.strict.limit: Input should be a valid integer" in broken["error"]


def test_a_table_that_no_plugin_takes_is_a_warning(tree: Tree) -> None:
    warning = "settings of a plugin 'valt', which is not there; did you mean 'vault'?"
    until(lambda: warning in tree.output, what="the warning")
    assert tree.output.count(warning) == 1


def test_no_value_is_shown_anywhere(tree: Tree) -> None:
    logs = "".join(path.read_text() for path in (tree.folder / ".skipper/logs").iterdir())
    pages = "".join(tree.get(f"/v1/{page}").text for page in ("functions", "pools"))
    assert "SESAME" not in tree.output + logs + pages
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in tree.processes()]
    assert b"SESAME" not in b"".join(commands)
