"""A stand-in gateway, a project folder, and ways to run the command against them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from skipper.cli.app import app
from tests.unit.cli.stand_in import StandIn, serving


@pytest.fixture(scope="session")
def server() -> Iterator[StandIn]:
    with serving() as stand_in:
        yield stand_in


@pytest.fixture
def gateway(server: StandIn) -> StandIn:
    return server.reset()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings from outside, and an empty folder to stand in."""
    for name in os.environ:
        if name.startswith("SKIPPER_") or name in ("FORCE_COLOR", "NO_COLOR", "CI"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(gateway: StandIn, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command in this process, against the stand-in."""
    monkeypatch.setenv("SKIPPER_URL", gateway.url)

    def run(*arguments: str, text: str | None = None) -> Any:
        return CliRunner().invoke(app, list(arguments), input=text, prog_name="skipper")

    return run


@pytest.fixture
def command(gateway: StandIn) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``python -m skipper`` as a process of its own, against the stand-in."""

    def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "skipper", *arguments],
            env=os.environ | {"SKIPPER_URL": gateway.url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )

    return command
