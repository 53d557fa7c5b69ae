"""Certificates: what can be served, and what a client of the same machine trusts."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest

from skipper.tls import is_open_to_others, pinned, server_context
from tests.certificates import encrypted, issue_pair, make_pair, needs_openssl, old_versions

pytestmark = needs_openssl


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> str | None:
    """Both ends in memory; the version that they agree on. Raises ssl.SSLError for none."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_side=False)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (one, other):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return one.version()


def test_a_pair_serves_and_is_known_again_by_its_file(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    version = shake_hands(pinned(pair.certificate), server_context(*pair))
    assert version == "TLSv1.3"


def test_another_certificate_is_not_taken_for_it(tmp_path: Path) -> None:
    pair, other = make_pair(tmp_path), make_pair(tmp_path, "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(pinned(pair.certificate), server_context(*other))


def test_nor_is_one_that_the_same_authority_has_signed(tmp_path: Path) -> None:
    authority = make_pair(tmp_path, "authority")
    pair, other = (issue_pair(tmp_path, authority, name) for name in ("one", "other"))
    assert shake_hands(pinned(pair.certificate), server_context(*pair))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(pinned(pair.certificate), server_context(*other))


def test_old_versions_are_not_spoken(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    old = old_versions(pinned(pair.certificate))
    with pytest.raises(ssl.SSLError):
        shake_hands(old, server_context(*pair))


def test_a_pair_that_cannot_serve_says_why(tmp_path: Path) -> None:
    pair, other = make_pair(tmp_path), make_pair(tmp_path, "other")
    text = tmp_path / "text"
    text.write_text("no certificate")
    for certificate, key, said in (
        (tmp_path / "none", pair.key, f"{tmp_path / 'none'} cannot be read"),
        (pair.certificate, tmp_path / "none", f"{tmp_path / 'none'} cannot be read"),
        (tmp_path, pair.key, "cannot be read"),
        (text, pair.key, "must hold a certificate and its key in PEM"),
        (pair.certificate, text, "must hold a certificate and its key in PEM"),
        (pair.key, pair.certificate, "must hold a certificate and its key in PEM"),
        (pair.certificate, other.key, "is not that of the certificate"),
        (pair.certificate, encrypted(pair), "is encrypted; store it without a passphrase"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)) as seen:
            server_context(certificate, key)
        assert "PRIVATE" not in str(seen.value)


def test_a_file_without_a_certificate_cannot_be_trusted(tmp_path: Path) -> None:
    for text in ("", "-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n"):
        (tmp_path / "file").write_text(text)
        with pytest.raises(ValueError, match="holds no certificate"):
            pinned(tmp_path / "file")


@pytest.mark.parametrize(
    ("mode", "is_open"),
    [(0o600, False), (0o640, False), (0o644, True), (0o604, True), (0o602, True)],
)
def test_a_key_is_its_owners_and_perhaps_a_groups(tmp_path: Path, mode: int, is_open: bool) -> None:
    key = tmp_path / "key"
    key.touch()
    key.chmod(mode)
    assert is_open_to_others(key) is is_open
