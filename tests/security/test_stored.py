"""What is stored is what was written, or is not answered at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.tree import CPU_ALONE, Tree, lent, project

FUNCTIONS = """
import skipper

@skipper.data(mode="task")
def twice(text: str) -> str:
    return text + text

@skipper.data
def asks(text: str) -> str:
    return twice.remote(text=text)
"""


def flip(blob: Path) -> None:
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)


def replace_by_a_folder(blob: Path) -> None:
    blob.unlink()
    (blob / "in it").mkdir(parents=True)


def replace_by_another(blob: Path) -> None:
    others = [file for file in blob.parents[1].rglob("*") if file.is_file() and file != blob]
    shutil.copyfile(others[0], blob)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "one bit is another": flip,
    "it is shorter": lambda blob: blob.write_bytes(blob.read_bytes()[:-1]),
    "it is empty": lambda blob: blob.write_bytes(b""),
    "it is longer": lambda blob: blob.write_bytes(blob.read_bytes() + b" "),
    "it is another": replace_by_another,
    "it is gone": Path.unlink,
    "it is a folder": replace_by_a_folder,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree that stores every value as a blob."""
    settings = "[storage]\ninline_kb = 0\n[run]\nreload = false\n"
    folder = project(tmp_path_factory.mktemp("stored"), settings, texts=FUNCTIONS)
    with lent(Tree(folder, *CPU_ALONE)) as grown:
        yield grown.ready()
        assert "Traceback" not in grown.output
        grown.end()


def blob_of(tree: Tree, content: bytes) -> Path:
    """Where it lies; to be damaged, as its owner may."""
    digest = hashlib.sha256(content).hexdigest()
    path = tree.folder / ".skipper" / "blobs" / digest[:2] / digest
    if path.is_file():
        path.chmod(0o600)
    return path


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_never_answered_until_it_is_stored_again(
    tree: Tree, damage: str
) -> None:
    text = f"result: {damage}"
    sent = {"prefer": "wait=20", "idempotency-key": f"result-{damage.replace(' ', '-')}"}
    first = tree.invoke("texts.twice", {"text": text}, **sent)
    assert first.json() == text * 2
    blob = blob_of(tree, json.dumps(text * 2).encode())
    DAMAGES[damage](blob)
    for answer in (
        tree.get(f"{first.headers['location']}/result"),
        tree.invoke("texts.twice", {"text": text}, **sent),  # the same task
    ):
        assert answer.status_code == 503, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert "result" in answer.json()["detail"]
        assert str(tree.folder) not in answer.text
    assert blob.name in tree.output
    again = tree.invoke("texts.twice", {"text": text}, prefer="wait=20")
    assert again.json() == text * 2
    assert tree.get(f"{first.headers['location']}/result").json() == text * 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_function_never_sees_a_damaged_input(tree: Tree, damage: str) -> None:
    text = f"input: {damage}"
    first = tree.submit("texts.twice", {"text": text})
    assert tree.result(first) == text * 2
    blob = blob_of(tree, tree.http.build_request("POST", "/", json={"text": text}).content)
    DAMAGES[damage](blob)
    retried = tree.ended(tree.post(f"/v1/tasks/{first}/retry").json()["id"])
    assert retried["state"] == "failed"
    assert retried["error"]["detail"].startswith("its input ")
    assert tree.get(f"/v1/tasks/{retried['id']}/result").status_code == 503
    assert blob.name in tree.output
    assert tree.result(tree.submit("texts.twice", {"text": text})) == text * 2
    assert tree.result(tree.post(f"/v1/tasks/{first}/retry").json()["id"]) == text * 2


def test_a_replay_under_a_key_repairs_the_input_of_the_task_that_has_it(tree: Tree) -> None:
    body, sent = {"text": "replayed"}, {"idempotency-key": "replayed"}
    first = tree.submit("texts.twice", body, **sent)
    tree.ended(first)
    flip(blob_of(tree, tree.http.build_request("POST", "/", json=body).content))
    assert tree.submit("texts.twice", body, **sent) == first
    retried = tree.post(f"/v1/tasks/{first}/retry").json()["id"]
    assert tree.result(retried) == "replayedreplayed"


def test_nothing_of_a_write_that_was_cut_off_is_ever_read(tree: Tree) -> None:
    partial = tree.folder / ".skipper" / "blobs" / "partial" / ("0" * 32)
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(b'"cut o')
    assert tree.value("texts.asks", {"text": "cut off"}) == "cut offcut off"
