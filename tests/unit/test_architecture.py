"""What ARCHITECTURE.md says of imports and of the environment holds in the source itself.

import-linter sees imports between modules; what no contract of its can say is read off the syntax.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter import configuration
from importlinter.application.use_cases import lint_imports

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "runtime" / "skipper"

ALLOWED = {
    "celery": ("tasks/broker.py", "consumer/worker.py"),
    "kombu": ("tasks/broker.py", "consumer/worker.py"),
    "fastapi": ("gateway/",),
    "starlette": ("gateway/",),
    "tensorflow": (),
    "keras": (),
    "the environment": ("settings/environment.py",),
}
"""What may be touched by these files and folders only."""
_ENVIRONMENT = frozenset({"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"})


def breaches(folder: Path) -> list[str]:
    """``file:line touches …`` for everything that a file below ``folder`` must leave alone."""
    return [
        f"{name}:{line} touches {what}"
        for file in sorted(folder.rglob("*.py"))
        for name in [file.relative_to(folder).as_posix()]
        for line, what in touched(ast.parse(file.read_bytes()))
        if what in ALLOWED and not name.startswith(ALLOWED[what])
    ]


def touched(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Imported packages and uses of the environment, wherever they stand, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            if _ENVIRONMENT & {alias.name for alias in node.names}:
                yield node.lineno, "the environment"
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]
        elif isinstance(node, ast.Attribute) and node.attr in _ENVIRONMENT:
            yield node.lineno, "the environment"
        elif isinstance(node, ast.Call) and (name := _imported_by_name(node)):
            yield node.lineno, name.partition(".")[0]


def _imported_by_name(node: ast.Call) -> str:
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    named = node.args[0] if node.args else None
    is_import = called in ("import_module", "__import__") and isinstance(named, ast.Constant)
    return str(named.value) if is_import and isinstance(named, ast.Constant) else ""


def test_the_runtime_keeps_its_rules() -> None:
    assert len(list(RUNTIME.rglob("*.py"))) > 50
    assert breaches(RUNTIME) == []


def test_every_rule_has_a_place_that_needs_it() -> None:
    """A rule that allows a file which is gone, or never touches the thing, guards nothing."""
    for what, places in ALLOWED.items():
        for place in places:
            files = [RUNTIME / place] if place.endswith(".py") else (RUNTIME / place).rglob("*.py")
            seen = {name for file in files for _, name in touched(ast.parse(file.read_bytes()))}
            assert what in seen, f"{place} does not touch {what}"


@pytest.mark.parametrize(
    ("file", "text", "breach"),
    [
        ("client.py", "import celery", "client.py:1 touches celery"),
        ("pool/host.py", "from kombu.pools import connections", "pool/host.py:1 touches kombu"),
        ("consumer/worker.py", "import celery.app", None),
        ("tasks/broker.py", "from kombu import Queue", None),
        ("role.py", "def f():\n    import fastapi", "role.py:2 touches fastapi"),
        ("gateway/app.py", "from starlette.types import Scope", None),
        ("gateway.py", "import starlette", "gateway.py:1 touches starlette"),
        ("instance/child.py", "if True:\n from keras import layers", "child.py:2 touches keras"),
        (
            "gateway/context.py",
            "import tensorflow as tf",
            "gateway/context.py:1 touches tensorflow",
        ),
        (
            "plugins.py",
            "import importlib\nimportlib.import_module('tensorflow.keras')",
            "plugins.py:2 touches tensorflow",
        ),
        ("plugins.py", "__import__('celery')", "plugins.py:1 touches celery"),
        ("logs.py", "import os\nos.environ['A']", "logs.py:2 touches the environment"),
        ("logs.py", "import os as o\nx = o.getenv('A')", "logs.py:2 touches the environment"),
        ("logs.py", "from os import environ", "logs.py:1 touches the environment"),
        ("settings/environment.py", "import os\nos.environ['A']", None),
        (
            "cli/environment.py",
            "import os\nos.environ['A']",
            "environment.py:2 touches the environment",
        ),
        ("logs.py", "import os\nos.getpid()\nimport celeryish\nfrom . import celery", None),
    ],
)
def test_a_breach_is_seen(tmp_path: Path, file: str, text: str, breach: str | None) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    found = breaches(tmp_path)
    assert found == [] if breach is None else len(found) == 1 and found[0].endswith(breach)


ACCEPTING = frozenset(
    {
        "tasks.accept",
        "tasks.accept_all",
        "tasks.requeue",
        "_admission.accept_all",
        "_admission.requeue",
        "schedules.run_now",
        "schedules.fire",
        "endings.settle",
    }
)
"""The operations of the ledger by which tasks come to be."""


def accepting(file: Path) -> frozenset[str]:
    """Which of them a file uses."""
    return ACCEPTING & {
        f"{node.value.id if isinstance(node.value, ast.Name) else node.value.attr}.{node.attr}"
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute)
    }


def test_tasks_come_to_be_by_the_intake_alone() -> None:
    intake = RUNTIME / "tasks" / "intake.py"
    unbound = {"tasks.accept", "tasks.accept_all", "tasks.requeue"}
    assert accepting(intake) == ACCEPTING - unbound
    others = [file for file in RUNTIME.rglob("*.py") if file != intake]
    assert [file for file in others if accepting(file)] == []


configuration.configure()  # its command would do so, but takes the process's logging over, too


def test_imports_point_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    is_kept = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None)
    assert is_kept, capsys.readouterr().out


def test_an_import_against_the_direction_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("top", "bottom"):
        (tmp_path / "layered").mkdir(exist_ok=True)
        (tmp_path / "layered" / f"{module}.py").write_text("")
    (tmp_path / "layered" / "__init__.py").write_text("")
    (tmp_path / "layered" / "bottom.py").write_text("from layered import top")
    config = tmp_path / ".importlinter"
    config.write_text(
        "[importlinter]\nroot_package = layered\n"
        "[importlinter:contract:one]\nname = one way\ntype = layers\n"
        "layers =\n    layered.top\n    layered.bottom\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert not lint_imports(config_filename=str(config), cache_dir=None)
    assert "layered.bottom -> layered.top" in capsys.readouterr().out
