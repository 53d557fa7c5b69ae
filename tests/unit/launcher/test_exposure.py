"""What an operator is told of how open the gateway is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from skipper.errors import StartError
from skipper.launcher.exposure import warnings
from skipper.settings.model import GatewaySettings, Settings
from tests.certificates import make_pair, needs_openssl

KEY = "3b0arnnc3gjk0ckto7avdbu64t"
KEYS = (SecretStr(KEY),)


def told(folder: Path, **own: Any) -> list[str]:
    return list(warnings(Settings(project_dir=folder, gateway=GatewaySettings(**own))))


@pytest.mark.parametrize(
    ("own", "is_told"),
    [
        ({}, False),
        ({"keys": KEYS}, False),
        ({"host": "0.0.0.0", "keys": KEYS}, True),
        ({"host": "10.0.0.7", "keys": KEYS}, True),
        ({"host": "::", "keys": KEYS}, True),
        ({"host": "0.0.0.0", "keys": KEYS, "trusted_proxies": ("10.0.0.1",)}, False),
        ({"host": "0.0.0.0", "socket": "door.sock"}, False),
    ],
)
def test_keys_in_clear_on_a_network_are_told(
    tmp_path: Path, own: dict[str, Any], is_told: bool
) -> None:
    found = told(tmp_path, **own)
    assert bool(found) is is_told
    assert all("in clear" in text and KEY not in text for text in found)


@needs_openssl
def test_with_a_certificate_nothing_is_in_clear(tmp_path: Path) -> None:
    make_pair(tmp_path)
    own = {"host": "0.0.0.0", "keys": KEYS, "tls_cert": "gateway.pem", "tls_key": "gateway.key"}
    assert told(tmp_path, **own) == []


@needs_openssl
def test_a_key_that_others_may_read_is_told(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    pair.key.chmod(0o644)
    (text,) = told(tmp_path, tls_cert="gateway.pem", tls_key="gateway.key")
    assert text.startswith(f"gateway.tls_key: every user of this machine may read {pair.key}")


@needs_openssl
def test_a_pair_that_is_none_stops_the_start(tmp_path: Path) -> None:
    make_pair(tmp_path)
    with pytest.raises(StartError, match="cannot be read") as seen:
        told(tmp_path, tls_cert="gateway.pem", tls_key="none.key")
    assert seen.value.code == 3
