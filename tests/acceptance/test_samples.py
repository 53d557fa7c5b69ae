"""The samples of this repository, end to end on TensorFlow, and the pages that show them.

What README and docs/ show is run here as it stands there: commands in a shell, Python in a process
of its own. Only the gateway's address is another, and trainings are cut short.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.events import Event, sse
from tests.acceptance.pages import REPOSITORY, blocks, commands, page, run, section
from tests.acceptance.tree import Tree, lent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),  # TensorFlow is imported twice: for its template of each pool
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree of the repository's own functions, and the one on README's first screen."""
    folder = tmp_path_factory.mktemp("samples")
    for part in ("functions", "skipper.toml"):
        copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
        copy(REPOSITORY / part, folder / part)
    with (folder / "skipper.toml").open("a") as file:
        file.write(section(page("docs/plugins.md"), "Shipped: tabular", "toml"))
    first = blocks(page("README.md"), "python")[0]
    (folder / first.partition("\n")[0].removeprefix("# ")).write_text(first)
    # A busy machine imports TensorFlow for longer than callers otherwise wait for an instance.
    with lent(Tree(folder, SKIPPER_POOLS_CPU_QUEUE_WAIT_S="120")) as tree:
        tree.start().wait_for_functions()
        assert not tree.broken()
        yield tree
        tree.end()


@pytest.fixture(scope="module")
def trained(samples: Tree) -> list[Event]:
    """What was told of the first training of Boston. Before it there is nobody to ask."""
    early = samples.invoke("boston.predict", {"rm": 6.5})
    assert early.status_code == 503
    assert "boston.train" in early.json()["detail"]
    return train(samples, {"epochs": 30})


def train(samples: Tree, body: dict[str, int]) -> list[Event]:
    """Train Boston; all that is told of it, however long it takes on a busy machine."""
    task_id = samples.submit("boston.train", body)
    with samples.http.stream("GET", f"/v1/tasks/{task_id}/events") as response:
        return list(sse(response))


def test_boston_is_trained_and_asked_for_a_price(samples: Tree, trained: list[Event]) -> None:
    progress = [event.data for event in trained if event.type == "progress"]
    assert [each["done"] for each in progress] == list(range(1, 31))
    assert progress[-1]["loss"] < progress[0]["loss"]
    result = samples.result(trained[-1].data["id"])
    assert (result["name"], result["version"]) == ("boston", 1)
    assert result["metrics"]["rmse"] < 6
    small, large = (samples.value("boston.predict", {"rm": rm})["price"] for rm in (4.5, 8.0))
    assert 5 < small < large < 60
    response = samples.invoke("boston.predict", {"rm": 6.5})
    assert response.headers["x-skipper-model"] == "boston@1"
    assert samples.invoke("boston.predict", {"rooms": 6.5}).status_code == 422


def test_a_model_goes_through_its_whole_life(samples: Tree, trained: list[Event]) -> None:
    """Trained, kept out where it is bad, promoted, called, rolled back: as README tells it."""

    def served_by() -> str:
        reply = samples.invoke("boston.predict", {"rm": 6.5})
        assert reply.status_code == 200
        return str(reply.headers["x-skipper-model"])

    def verb(*words: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(run(samples, ["skipper", "models", *words, "--json"]))
        return told

    before = served_by()
    bad = samples.result(train(samples, {"epochs": 1})[-1].data["id"])
    assert (bad["promoted"], bad["why"][:5]) == (False, "rmse ")
    assert served_by() == before, "what served serves on"
    shown = verb("show", f"boston@{bad['version']}")
    assert shown["gate"]["checks"][0]["value"] == bad["metrics"]["rmse"]

    good = samples.result(train(samples, {"epochs": 10, "seed": 1})[-1].data["id"])
    assert good["promoted"] is True
    assert served_by() == f"boston@{good['version']}"
    back = verb("rollback", "boston", "--why", "as the README tells it")
    assert f"boston@{back['production']}" == served_by() == before
    again = verb("promote", f"boston@{good['version']}")
    assert (again["production"], again["previous"]) == (good["version"], back["production"])
    assert served_by() == f"boston@{good['version']}"


# --- the pages -----------------------------------------------------------------------------------


def here(tree: Tree, text: str) -> str:
    """``text`` with this tree's address, and with short trainings."""
    return re.sub(
        r"(epochs(?:=|\": ))\d+", r"\g<1>2", text.replace("http://127.0.0.1:8000", tree.url)
    )


def test_the_first_screen_does_what_it_shows(samples: Tree) -> None:
    up, train, ask = commands(page("README.md"))[:3]
    assert up[0].startswith("skipper up")
    run(samples, ["sh", "-c", here(samples, train[0])])
    assert run(samples, ["sh", "-c", here(samples, ask[0])]) == ask[1]


def test_readmes_commands_work(samples: Tree, trained: list[Event]) -> None:
    del trained
    mine = [each for each, _ in commands(page("README.md"))[3:] if each.startswith("skipper ")]
    assert len(mine) >= 6
    for command in mine:
        if not command.startswith("skipper up"):
            assert run(samples, ["sh", "-c", here(samples, command)])


def test_readmes_make_targets_exist() -> None:
    named = re.findall(r"(?:`|\$ )make ([\w-]+)", page("README.md") + page("CONTRIBUTING.md"))
    targets = re.findall(r"^([\w-]+):", page("Makefile"), re.MULTILINE)
    assert set(named) <= set(targets)


def test_the_tabular_plugin_does_what_its_page_shows(samples: Tree) -> None:
    shown = [each for each in commands(page("docs/plugins.md")) if "tabular." in each[0]]
    assert [name for name in ("prepare", "train", "predict") if f"tabular.{name}" in str(shown)]
    outputs = [run(samples, ["sh", "-c", command]) for command, _ in shown]
    told, answered = json.loads(shown[-1][1]), json.loads(outputs[-1])
    assert answered[0]["prediction"] == pytest.approx(told[0]["prediction"], abs=3)


@pytest.mark.parametrize("name", ["README.md", "docs/client.md"])
def test_the_python_on_a_page_runs(samples: Tree, trained: list[Event], name: str) -> None:
    del trained
    mine = [text for text in blocks(page(name), "python") if not text.startswith("# functions/")]
    assert mine
    for text in mine:
        run(samples, [sys.executable, "-c", as_script(here(samples, text))])


def as_script(text: str) -> str:
    """A page's lines as a program, with what they await in a coroutine."""
    if "async with" not in text:
        return text
    body = textwrap.indent(text, "    ")
    return f"import asyncio\nimport skipper\nasync def main():\n{body}asyncio.run(main())\n"
