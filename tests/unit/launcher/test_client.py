"""Whom a verb takes for the project's launcher."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skipper.errors import UnavailableError
from skipper.launcher import client
from skipper.settings.model import Settings

NOBODY = 65534


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    settings = Settings(project_dir=tmp_path)
    settings.run_dir.mkdir()
    return settings


@pytest.fixture
def planted(settings: Settings) -> Iterator[socket.socket]:
    """A socket in the launcher's place that another user listens on."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(settings.run_dir / client.SOCKET))
        os.seteuid(NOBODY)
        try:
            sock.listen()
        finally:
            os.seteuid(0)
        sock.settimeout(0)
        yield sock


@pytest.mark.skipif(os.getuid() != 0, reason="only root can listen as somebody else")
@pytest.mark.parametrize("ask", [client.status, lambda settings: client.down(settings, 1.0)])
def test_another_users_launcher_is_asked_nothing(
    ask: Callable[[Settings], object], settings: Settings, planted: socket.socket
) -> None:
    with pytest.raises(UnavailableError, match="another user's"):
        ask(settings)
    connection, _ = planted.accept()
    with connection:
        assert connection.recv(100) == b""


def test_where_nobody_listens_nothing_runs(settings: Settings) -> None:
    assert client.status(settings) is None
    (settings.run_dir / client.SOCKET).touch()
    assert client.status(settings) is None
