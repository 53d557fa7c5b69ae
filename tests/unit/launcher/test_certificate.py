"""A certificate is looked at before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skipper.errors import StartError
from skipper.launcher.certificate import warnings
from skipper.settings.model import GatewaySettings, Settings
from tests.certificates import make_pair, needs_openssl


def told(folder: Path, **own: Any) -> list[str]:
    return list(warnings(Settings(project_dir=folder, gateway=GatewaySettings(**own))))


@needs_openssl
def test_a_pair_that_can_be_served_is_not_worth_a_word(tmp_path: Path) -> None:
    make_pair(tmp_path)
    assert told(tmp_path, tls_cert="gateway.pem", tls_key="gateway.key") == []
    assert told(tmp_path) == []


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
