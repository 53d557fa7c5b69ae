"""A gateway that speaks TLS itself."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from skipper import Client
from skipper.errors import UnavailableError
from skipper.tls import pinned
from tests.acceptance.conftest import Grow
from tests.acceptance.tree import CPU_ALONE, Tree, project, until
from tests.certificates import Pair, make_pair, needs_openssl, old_versions

pytestmark = needs_openssl
TOML = '[gateway]\ntls_cert = "gateway.pem"\ntls_key = "gateway.key"\nhead_timeout_s = 1.0\n'
FUNCTIONS = """
import skipper

@skipper.inference
def double(x: int) -> int:
    return 2 * x
"""


def skipper(tree: Tree, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skipper", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=tree.environment(),
    )


def served(tree: Tree) -> bytes:
    """The certificate that a new connection is shown, whatever it is."""
    host, _, port = tree.url.removeprefix("https://").partition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True) or b""


def der_of(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


def put(folder: Path, source: Pair) -> None:
    for name, file in zip(("gateway.pem", "gateway.key"), source, strict=True):
        fresh = folder / f"{name}.new"
        fresh.write_bytes(file.read_bytes())
        fresh.replace(folder / name)


def test_a_gateway_speaks_tls_and_takes_up_what_is_renewed(tmp_path: Path, grow: Grow) -> None:
    folder = project(tmp_path / "project", TOML, f=FUNCTIONS)
    old, new = make_pair(folder), make_pair(tmp_path, "new")
    old.key.chmod(0o644)
    tree = grow(folder, *CPU_ALONE).ready()
    assert tree.url.startswith("https://127.0.0.1:")
    assert f"{tree.url}/docs" in tree.output
    assert f"every user of this machine may read {old.key}" in tree.output
    assert served(tree) == der_of(old)

    assert tree.value("f.double", {"x": 3}) == 6
    called = skipper(tree, "call", "--project", str(folder), "f.double", "-p", "x=4")
    assert (called.returncode, called.stdout) == (0, "8\n"), called.stderr
    assert skipper(tree, "status", "--project", str(folder)).returncode == 0
    with Client(tree.url, tls=pinned(old.certificate)) as client:
        assert client.call("f.double", x=5) == 10
    with Client(tree.url) as client, pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY"):
        client.call("f.double", x=6)

    (folder / "gateway.key").write_text("nonsense")
    until(lambda: "the certificate stays as it was" in tree.output)
    assert served(tree) == der_of(old)
    put(folder, new)
    until(lambda: served(tree) == der_of(new))
    called = skipper(tree, "call", "--project", str(folder), "f.double", "-p", "x=7")
    assert (called.returncode, called.stdout) == (0, "14\n"), called.stderr
    speaks_nothing_old_and_nothing_in_clear(tree)
    gives_a_handshake_no_more_time_than_a_head(tree)
    tree.end()


def speaks_nothing_old_and_nothing_in_clear(tree: Tree) -> None:
    host, _, port = tree.url.removeprefix("https://").partition(":")
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old_versions(old)
    with socket.create_connection((host, int(port)), 10) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain)
    with socket.create_connection((host, int(port)), 10) as plain:
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200" not in plain.recv(1000)


def gives_a_handshake_no_more_time_than_a_head(tree: Tree) -> None:
    host, _, port = tree.url.removeprefix("https://").partition(":")
    for sent in (b"", b"\x16\x03\x01\x02\x00"):  # nothing, and the beginning of a first record
        with socket.create_connection((host, int(port)), 15) as plain:
            plain.sendall(sent)
            assert plain.recv(1000) == b""


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (TOML.replace(".key", ".none"), "gateway.none cannot be read"),
        (TOML.replace("gateway.key", "skipper.toml"), "must hold a certificate and its key"),
    ],
)
def test_what_cannot_be_served_stops_the_start(tmp_path: Path, toml: str, said: str) -> None:
    folder = project(tmp_path, toml, f=FUNCTIONS)
    make_pair(folder)
    started = skipper(Tree(folder), "up", "--project", str(folder), "--port", "0")
    assert started.returncode == 3
    assert said in started.stderr
