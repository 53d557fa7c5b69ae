"""Without keys a gateway on loopback serves the account that started it, and no other."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.tree import UP, Tree, lent, project, until
from tests.security.conftest import Connect
from tests.security.raw import Raw

NOBODY, SOMEBODY = 65534, 65533
FUNCTION = "import skipper\n\n\n@skipper.inference\ndef add(x: int) -> int:\n    return x + 10\n"
CALL = "/v1/functions/bodies.add/invoke"
PARTS = ("--only", "broker,gateway,pool:cpu")

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can send requests from a second account"
)

_AS_SOMEBODY = (
    "setpriv",
    f"--reuid={SOMEBODY}",
    f"--regid={SOMEBODY}",
    "--clear-groups",
    "--inh-caps=+dac_read_search",  # to read the interpreter, where it lies in root's own folder
    "--ambient-caps=+dac_read_search",
)


@contextlib.contextmanager
def account(uid: int) -> Iterator[None]:
    """What is opened within is opened by another account."""
    mine = os.geteuid()
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(mine)


def ask_as(uid: int, url: str, method: str = "POST", path: str = CALL) -> tuple[int, str]:
    """Send a request over a connection of another account; status and body of its answer."""
    with account(uid):
        raw = Raw(url)  # a socket is of the account that opened it
    with contextlib.closing(raw):
        body = b'{"x": 1}' if method == "POST" else b""
        answer = raw.request(method, path, body=body)
    return answer.status, answer.body.decode()


class TreeOfSomebody(Tree):
    """A tree that another account has started."""

    def launch(self) -> subprocess.Popen[bytes]:
        with self._file.open("ab") as output:
            self._launcher = subprocess.Popen(
                [*_AS_SOMEBODY, *UP, "--project", str(self.folder), *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment() | {"HOME": str(self.folder)},
                start_new_session=True,
            )
        return self._launcher

    def wait_for_url(self) -> str:
        found = until(lambda: re.search(r"REST +(http://\S+)/v1/functions", self.output))
        assert found
        self.connect(found[1])
        return found[1]


@pytest.fixture
def somebodys() -> Iterator[TreeOfSomebody]:
    """A tree of another account than the tests'."""
    folder = Path(tempfile.mkdtemp(prefix="skipper-of-somebody-"))
    try:
        project(folder, bodies=FUNCTION)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, SOMEBODY, SOMEBODY)
        tree = TreeOfSomebody(folder, *PARTS)
        with lent(tree):
            tree.launch()
            yield tree
    finally:
        shutil.rmtree(folder)


@needs_root
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CALL),
        ("GET", "/v1/functions"),
        ("GET", "/docs"),
        ("POST", "/v1/schedules/leap/pause"),
        ("OPTIONS", CALL),
        ("GET", "/readyz?verbose"),
        ("GET", "/nowhere"),
    ],
)
def test_another_account_is_refused_and_told_what_to_set(
    attacked: Tree, method: str, path: str
) -> None:
    status, body = ask_as(NOBODY, attacked.url, method, path)
    assert (status, json.loads(body)["type"]) == (403, "/problems/other-user")
    assert "gateway.keys" in body
    assert "gateway.local" in body


@needs_root
def test_the_same_account_is_served_by_the_side_of_the_other(
    attacked: Tree, connect: Connect
) -> None:
    mine = connect(attacked)
    for _ in range(3):
        assert mine.request("POST", CALL, body=b'{"x": 1}').body == b"11"
        assert ask_as(NOBODY, attacked.url)[0] == 403
    assert ask_as(0, attacked.url) == (200, "11")


@needs_root
def test_probes_of_any_account_are_answered(attacked: Tree) -> None:
    assert ask_as(NOBODY, attacked.url, "GET", "/livez")[0] == 200
    assert ask_as(NOBODY, attacked.url, "GET", "/readyz")[0] == 200


@needs_root
def test_who_is_refused_is_counted_and_logged(attacked: Tree) -> None:
    ask_as(NOBODY, attacked.url)
    counted = re.search(
        r'skipper_refused_total\{reason="user"\} (\d+)', attacked.get("/metrics").text
    )
    assert counted
    assert int(counted[1]) >= 1
    assert until(
        lambda: re.search(r"refused a request from other accounts.*uid 65534", attacked.output)
    )


@needs_root
@pytest.mark.skipif(not shutil.which("setpriv"), reason="util-linux starts it as somebody else")
def test_a_tree_of_somebody_serves_somebody_and_root_alone(somebodys: TreeOfSomebody) -> None:
    url = somebodys.wait_for_url()
    somebodys.wait_for_functions()  # root asks
    assert ask_as(SOMEBODY, url) == (200, "11")
    assert ask_as(NOBODY, url)[0] == 403
    private = [somebodys.folder / ".skipper", Path(tempfile.gettempdir()) / f"skp-{SOMEBODY}"]
    for folder in private:
        assert not stat.S_IMODE(folder.stat().st_mode) & 0o077, folder


@needs_root
def test_another_account_reads_neither_environment_nor_files_of_the_tree(attacked: Tree) -> None:
    processes = attacked.processes()
    assert len(processes) > 5
    folders = [attacked.settings.run_dir, attacked.settings.state_dir]
    with account(NOBODY):
        for pid in processes:
            with pytest.raises(PermissionError):
                Path(f"/proc/{pid}/environ").read_bytes()
        for folder in folders:
            with pytest.raises(PermissionError):
                next(folder.iterdir())


@needs_root
def test_anyone_is_let_in_where_the_project_says_so(public: Tree) -> None:
    assert ask_as(NOBODY, public.url) == (200, "11")


def test_the_command_of_the_same_account_just_works(attacked: Tree) -> None:
    command = [sys.executable, "-m", "skipper", "call", "bodies.add", "-p", "x=1"]
    ended = subprocess.run(
        [*command, "--project", str(attacked.folder)],
        env=attacked.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "11\n")
