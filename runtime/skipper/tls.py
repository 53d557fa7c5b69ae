"""TLS: the gateway's certificate, and how the same user's processes know it again."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

_ANY_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which ssl has no name for
_FIRST = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server with this pair of PEM files speaks: TLS 1.2 and later.

    ``certificate`` holds the server's own first, then those that lead to its authority. Raises
    ValueError, which says what is wrong with which file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    for file in (certificate, key):
        _read(file)
    try:
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise ValueError(_explained(error, certificate, key)) from None
    return context


def pinned(certificate: Path) -> ssl.SSLContext:
    """For a client on the same machine: trusts the server's own certificate and nothing else.

    Whatever name and dates it has, because the file itself says who the server is. Raises
    ValueError for a file that holds none.
    """
    found = _FIRST.search(_read(certificate))
    if found is None:
        raise ValueError(f"{certificate} holds no certificate in PEM")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Only the first of the file is trusted, and as it is: its authority's others are not.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _ANY_TIME
    try:
        context.load_verify_locations(cadata=found[0])
    except ssl.SSLError as error:
        raise ValueError(f"{certificate} holds no certificate ({error.reason})") from None
    return context


def is_open_to_others(key: Path) -> bool:
    """Whether users other than the key's owner and group may read or change it."""
    return bool(key.stat().st_mode & 0o007)


def _read(file: Path) -> str:
    try:
        return file.read_text("ascii", "replace")
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror})") from None


def _explained(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {key} is not that of the certificate in {certificate}"
    if "ENCRYPTED" in _read(key):
        return f"the key in {key} is encrypted; store it without a passphrase"
    return f"{certificate} and {key} must hold a certificate and its key in PEM ({error.reason})"
