"""Certificates for tests, made by the ``openssl`` of the machine."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="no openssl command to make a certificate with"
)


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: Path
    key: Path


def make_pair(folder: Path, name: str = "gateway", host: str = "api.example.com") -> Pair:
    """A certificate that vouches for itself, for a ``host`` that is not this machine."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    subject = f"-subj /CN={host} -addext subjectAltName=DNS:{host}"
    _openssl(f"req -x509 {_NEW} -days 2 {subject} -keyout {pair.key} -out {pair.certificate}")
    pair.key.chmod(0o600)
    return pair


def issue_pair(folder: Path, authority: Pair, name: str) -> Pair:
    """A certificate that ``authority`` has signed; its own first in the file, then that one."""
    pair, request = Pair(folder / f"{name}.pem", folder / f"{name}.key"), folder / f"{name}.csr"
    _openssl(f"req {_NEW} -subj /CN={name} -keyout {pair.key} -out {request}")
    signer = f"-CA {authority.certificate} -CAkey {authority.key} -CAcreateserial"
    signed = _openssl(f"x509 -req -days 2 -in {request} {signer}")
    pair.certificate.write_bytes(signed + authority.certificate.read_bytes())
    return pair


def encrypted(pair: Pair) -> Path:
    """The pair's key, under a passphrase."""
    file = pair.key.with_suffix(".locked")
    _openssl(f"pkey -aes256 -passout pass:secret -in {pair.key} -out {file}")
    return file


_NEW = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"


def _openssl(arguments: str) -> bytes:
    done = subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True)
    return done.stdout


def old_versions(context: ssl.SSLContext) -> ssl.SSLContext:
    """``context``, which speaks TLS 1.0 and 1.1 alone."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context
