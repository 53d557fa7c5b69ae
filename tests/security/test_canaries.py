"""Planted secrets turn up nowhere: no answer, page, log, command line or environment has one.

One tree is given a canary wherever a setting is secret, has its broker taken away and its hosts
killed under it, and everything that it says is searched. What settings' own messages say of secrets
that are written wrongly is tested in tests/unit/settings/test_masking.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skipper.cli.app import app
from skipper.launcher.valkey import find_server
from tests.acceptance.tree import Tree, lent, project, until

CANARY = re.compile("sesame", re.IGNORECASE)
"""Each secret has it in several places, so that a piece of one is found too."""
KEY = "sesame-" + secrets.token_hex(16) + "-sesame"
BROKER = "sesame%2Fsesame%40" + secrets.token_hex(4)
TOKEN = "sesame." + secrets.token_hex(16) + ".sesame"
HOOK = "whsec_c2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1l"
TOML = """
[broker]
url = "embedded"

[webhooks.ops]
url = "http://127.0.0.1:9/sesame-hook/{token}?sig=sesame-{token}"
secret = "{hook}"
allow_private = true

[plugins.vault]
token = "set by a variable"
"""
F = """
import os
import sys

import skipper


@skipper.data
def environment() -> dict[str, str]:
    return dict(os.environ)


@skipper.data
def fail() -> None:
    print(os.environ, sys.argv)
    raise ValueError("this task ends so that a webhook hears of it")


@skipper.data
def die() -> None:
    os._exit(3)
"""
VAULT = """
import skipper

token = []


@skipper.hook
def skipper_settings(settings):
    token.append(settings["token"])
    if settings["token"] == "refused":
        raise ValueError(settings["token"])


@skipper.hook
def skipper_sources(project):
    file = project.folder / "elsewhere" / "kept.py"
    yield skipper.Source(name="kept", file=file, module="elsewhere.kept", origin="vault")
    file = project.folder / "elsewhere" / "raises.py"
    yield skipper.Source(name="raises", file=file, module="elsewhere.raises", origin="vault")
"""
KEPT = """
import skipper
import vault


@skipper.data
def use() -> None:
    {vault.token[0]: 1}["the answer of " + vault.token[0]]
"""
RAISES = """
import vault

raise KeyError(vault.token[0])
"""


def canaries(text: str | bytes) -> list[str]:
    """Where ``text`` has one, with what stands around it."""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return [shown[max(0, m.start() - 80) : m.end() + 40] for m in CANARY.finditer(shown)]


@pytest.fixture(scope="module")
def broker(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A broker elsewhere that wants a password: its URL, and its process."""
    folder = tmp_path_factory.mktemp("b")
    sock = folder / "b.sock"
    command = [str(find_server()), "--port", "0", "--unixsocket", str(sock), "--dir", str(folder)]
    command += ["--requirepass", "sesame/sesame@" + BROKER.rpartition("%40")[2]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        until(sock.exists, what="the broker's socket")
        yield f"redis+socket://:{BROKER}@{sock}", server
        server.kill()


@pytest.fixture(scope="module")
def planted(
    tmp_path_factory: pytest.TempPathFactory, broker: tuple[str, subprocess.Popen[bytes]]
) -> Iterator[Tree]:
    """The tree, after it was used and harmed."""
    folder = project(
        tmp_path_factory.mktemp("planted") / "project", TOML.format(token=TOKEN, hook=HOOK), f=F
    )
    for path, text in (
        ("plugins/vault.py", VAULT),
        ("elsewhere/kept.py", KEPT),
        ("elsewhere/raises.py", RAISES),
    ):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    url, server = broker
    tree = Tree(
        folder,
        "--only",
        "gateway,scheduler,pool:cpu",
        SKIPPER_GATEWAY_KEYS=KEY,
        SKIPPER_BROKER_URL=url,
        SKIPPER_PLUGINS_VAULT_TOKEN=TOKEN,
        SKIPPER_LOG_LEVEL="debug",
    )
    tree.key = KEY
    with lent(tree):
        tree.ready()
        use(tree, server)
        yield tree


def use(tree: Tree, server: subprocess.Popen[bytes]) -> None:
    """Have it do, and suffer, all that makes it speak."""
    tree.wait_for_functions()
    for name in ("f.fail", "kept.use", "f.die"):
        assert tree.invoke(name).status_code >= 500
        tree.ended(tree.submit(name))
    tree.post("/v1/webhooks/ops/test")
    for key in ("sesame-wrong-key-0123456789", KEY[:-1], KEY + "x"):
        assert tree.get("/v1/functions", headers={"Authorization": f"Bearer {key}"}).status_code
    until(lambda: "attempt" in tree.json(DELIVERIES)["items"][0], what="a delivery")
    os.kill(tree.pids()["cpu"], signal.SIGKILL)
    server.kill()
    until(lambda: "cpu is back" in tree.output, what="a host in the dead one's place")
    until(lambda: "[-]broker" in tree.get("/readyz?verbose").text, what="the broker's absence")


DELIVERIES = "/v1/tasks?function=webhooks._deliver"
PATHS = (
    "/v1/functions",
    "/v1/functions/kept.use",
    "/v1/functions/none.such",
    "/v1/tasks",
    DELIVERIES,
    "/v1/tasks?cursor=x",
    "/v1/models",
    "/v1/pools",
    "/v1/schedules",
    "/v1/webhooks",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/livez",
    "/readyz?verbose",
)
VERBS = (
    "config show",
    "config show --origin",
    "config show --json",
    "config show --json --origin",
    "status",
    "status --json",
    "logs -n 10000 --level debug",
    "logs -n 10000 --level debug --json",
    "functions --json",
    "webhooks",
    "webhooks test ops --json",
    "tasks --json",
    "up",
)


def test_the_canaries_are_there_to_be_found(planted: Tree) -> None:
    handed_over = (planted.settings.run_dir / "settings.json").read_text()
    assert len(canaries(handed_over)) >= 6
    assert not [secret for secret in (KEY, TOKEN, BROKER, HOOK) if secret not in handed_over]
    assert stat.S_IMODE((planted.settings.run_dir / "settings.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("path", PATHS)
def test_no_answer_has_one(path: str, planted: Tree) -> None:
    response = planted.get(path)
    assert canaries(response.text + str(response.headers)) == []
    bare = planted.get(path, headers={"Authorization": ""})
    assert canaries(bare.text + str(bare.headers)) == []


def test_no_task_and_none_of_its_attempts_and_logs_has_one(planted: Tree) -> None:
    tasks = [each["id"] for each in planted.json("/v1/tasks?limit=100")["items"]]
    tasks += [each["id"] for each in planted.json(DELIVERIES)["items"]]
    assert len(tasks) >= 4
    for task in tasks:
        for part in ("", "/result", "/attempts", "/logs"):
            assert canaries(planted.get(f"/v1/tasks/{task}{part}").text) == []


@pytest.mark.parametrize("name", ["f.fail", "kept.use", "raises.any", "f.die"])
def test_no_failed_call_has_one(name: str, planted: Tree) -> None:
    assert canaries(planted.invoke(name).text) == []


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_says_one(verb: str, planted: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in planted.environment().items():
        monkeypatch.setenv(name, text)
    done = CliRunner().invoke(app, [*verb.split(), "--project", str(planted.folder)])
    assert done.output
    assert canaries(done.output) == []


def test_neither_terminal_nor_any_file_of_state_has_one(planted: Tree) -> None:
    assert canaries(planted.output) == []
    files = [path for path in planted.settings.state_dir.rglob("*") if path.is_file()]
    assert {"skipper.jsonl", "ledger.db", "events.db"} <= {path.name for path in files}
    assert {str(path): found for path in files if (found := canaries(path.read_bytes()))} == {}


def test_of_run_time_the_settings_alone_have_one(planted: Tree) -> None:
    files = [path for path in planted.settings.run_dir.rglob("*") if path.is_file()]
    assert [path.name for path in files if canaries(path.read_bytes())] == ["settings.json"]


def test_no_command_line_has_one(planted: Tree) -> None:
    assert len(planted.processes()) >= 6
    for pid in planted.processes():
        with contextlib.suppress(OSError):  # it has ended since
            assert canaries(Path(f"/proc/{pid}/cmdline").read_bytes()) == []


def test_of_all_environments_the_launchers_alone_has_one(planted: Tree) -> None:
    assert canaries(planted.invoke("f.environment").text) == []
    for pid in planted.processes().keys() - {planted.pid}:
        with contextlib.suppress(OSError):  # it has ended since
            assert canaries(Path(f"/proc/{pid}/environ").read_bytes()) == []
