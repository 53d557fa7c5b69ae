"""What goes wrong is told elsewhere without tracebacks, and without where a project lies."""

from __future__ import annotations

import re
from functools import partial

import pytest

from tests.acceptance.tree import Tree, until

ITEMS = ("application/jsonl", "text/event-stream")


def told(tree: Tree) -> list[str]:
    """Everything that a tree answers about functions that fail, and about files that are broken."""
    answers = [
        tree.invoke("leaky.reads"),
        tree.invoke("leaky.nests"),
        tree.invoke("leaky.streams"),
        *(tree.invoke("leaky.streams", accept=kind) for kind in ITEMS),
        tree.invoke("leaky.batches", {"items": [{"x": 0}, {"x": 1}]}),
        tree.invoke("leaky.batches", {"x": 0}),
        tree.invoke("leaky.predicts"),
        tree.invoke("leaky.validates", {"name": "gone.csv"}),
        tree.invoke("leaky.validates", {"name": "gone.csv"}, prefer="respond-async"),
        tree.invoke("leaky.reads", prefer="wait=30"),
        tree.invoke("leaky.trains", accept="text/event-stream"),
        tree.invoke("broken.f"),
        tree.invoke("half.f", prefer="respond-async"),
        tree.invoke("leaky.nowhere"),
    ]
    ended = [
        tree.ended(tree.submit(f"leaky.{name}"))["id"] for name in ("trains", "nests", "streams")
    ]
    for id_ in ended:
        parts = ("", "/result", "/attempts", "/logs", "/events")
        answers += [tree.get(f"/v1/tasks/{id_}{part}") for part in parts]
        answers.append(tree.post(f"/v1/tasks/{id_}/cancel"))
    paths = ("functions", "functions/broken.f", "functions/leaky.reads", "tasks", "models", "pools")
    answers += [tree.get(f"/v1/{path}") for path in (*paths, "schedules", "webhooks")]
    answers += [
        tree.get(path) for path in ("/openapi.json", "/metrics", "/readyz?verbose", "/docs")
    ]
    return [f"{each.request.url} {each.status_code}\n{each.text}" for each in answers]


@pytest.fixture(scope="module", params=["public", "locked"])
def tree(request: pytest.FixtureRequest) -> Tree:
    """One that names hosts, and one beyond loopback."""
    found: Tree = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def answers(tree: Tree) -> list[str]:
    return told(tree)


def test_no_answer_holds_a_traceback(answers: list[str]) -> None:
    assert "no-such-file.csv" in "".join(answers)
    for text in answers:
        assert "Traceback" not in text
        assert "most recent call last" not in text
        assert not re.search(r'"traceback": ?"[^"]', text), text
        assert ", line " not in text.replace("(half.py, line", ""), text


def test_no_answer_holds_the_projects_path(tree: Tree, answers: list[str]) -> None:
    for text in answers:
        assert str(tree.folder) not in text
        assert tree.folder.parent.name not in text


def test_answers_say_what_was_wrong_all_the_same(answers: list[str]) -> None:
    text = "".join(answers)
    assert (
        "FileNotFoundError: [Errno 2] No such file or directory: 'functions/no-such-file.csv'"
        in text
    )
    assert "Value error, functions/gone.csv is not there" in text
    assert "functions/broken.py:5" in text
    assert "functions/half.py:4" in text


def logs(tree: Tree, line: str) -> bool:
    return re.search(line, tree.output) is not None


def test_the_log_has_the_tracebacks_with_what_they_are_of(public: Tree) -> None:
    request = "traced-1"
    public.invoke("leaky.reads", x_request_id=request)
    public.invoke("leaky.streams")
    id_ = public.ended(public.submit("leaky.trains"))["id"]
    for line in (
        rf"leaky.reads: FileNotFoundError.*request={request}",
        rf"leaky.trains failed: FileNotFoundError.*task={id_}",
        rf'File "{public.folder}/functions/leaky.py", line \d+, in reads',
        rf'File "{public.folder}/functions/leaky.py", line \d+, in streams',
        rf'File "{public.folder}/functions/broken.py", line 5',
    ):
        until(partial(logs, public, line), what=line)


def test_a_function_that_always_fails_does_not_fill_the_log(public: Tree) -> None:
    size = len(public.output)
    for _ in range(50):
        assert public.invoke("leaky.reads").status_code == 500
    until(lambda: public.output.count("leaky.reads: FileNotFoundError", size) >= 50)
    assert public.output.count("Traceback", size) <= 1


def test_who_is_alone_on_the_machine_sees_them(attacked: Tree) -> None:
    answer = attacked.invoke("bad.raises").json()
    assert "Traceback (most recent call last)" in answer["traceback"]
