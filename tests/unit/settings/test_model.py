"""What follows from settings."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from skipper.errors import SettingsError
from skipper.settings.handover import make_run_dir
from skipper.settings.loading import load
from skipper.settings.model import GatewaySettings, ScheduleSettings, Settings


@pytest.fixture(autouse=True)
def runtime_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "proj"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("folder", "name"), [("My Proj.2", "my-proj-2"), ("---", "project"), ("ü", "project")]
)
def test_the_name_is_made_from_the_folder(tmp_path: Path, folder: str, name: str) -> None:
    assert Settings(project_dir=tmp_path / folder).name == name


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("[::1]", "http://[::1]:8000"),
        ("", "http://127.0.0.1:8000"),
        ("box.example", "http://box.example:8000"),
    ],
)
def test_the_base_url_can_be_asked(project: Path, host: str, url: str) -> None:
    settings, _ = load(project, {"gateway.host": host, "gateway.keys": ["0123456789abcdef"]})
    assert settings.base_url == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://h/d", "postgresql+psycopg://h/d"),
        ("postgres://h/d", "postgresql+psycopg://h/d"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
    ],
)
def test_postgresql_is_named_as_sqlalchemy_does(project: Path, url: str, expected: str) -> None:
    assert load(project, {"database.url": url})[0].database_url == expected


def test_the_default_database_lies_in_the_project(project: Path) -> None:
    assert load(project)[0].database_url == f"sqlite:///{project}/.skipper/ledger.db"


def test_the_run_folder_is_private_and_its_sockets_have_short_names(project: Path) -> None:
    folder = make_run_dir(load(project)[0])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(str(folder / "launcher.sock")) < 108


def test_an_open_run_folder_is_refused(project: Path) -> None:
    settings, _ = load(project)
    make_run_dir(settings).chmod(0o755)
    with pytest.raises(SettingsError, match="nobody else"):
        make_run_dir(settings)


def test_a_long_runtime_folder_is_passed_over(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    assert len(str(load(project)[0].run_dir)) < 80


ID = "file-" + "a" * 32
FILE = {"file": ID}


@pytest.mark.parametrize("body", [FILE, {"x": FILE}, {"x": [1, {"y": FILE}]}])
def test_a_schedule_names_no_file_that_expires_while_it_goes_on(body: Any) -> None:
    with pytest.raises(ValidationError, match=r"names the uploaded file file-a+, which expires"):
        ScheduleSettings(function="f.f", cron="0 3 * * *", body=body)


@pytest.mark.parametrize("body", [{"file": "a.wav"}, {"file": ID, "n": 1}, {"x": ID}, 5])
def test_what_only_looks_like_a_file_is_a_schedules_input(body: Any) -> None:
    assert ScheduleSettings(function="f.f", cron="0 3 * * *", body=body).body == body


def test_callers_see_tracebacks_where_nobody_else_can_call() -> None:
    assert GatewaySettings().shows_tracebacks
    assert GatewaySettings(host="::1", port=1, max_body_mb=1).shows_tracebacks


@pytest.mark.parametrize(
    "setting",
    [
        {"host": "0.0.0.0"},
        {"host": "box.example"},
        {"socket": "gateway.sock"},
        {"keys": ["0123456789abcdef"]},
        {"allowed_hosts": ["box.example"]},
        {"allowed_hosts": ["*"]},
        {"cors_origins": ["https://app.example.com"]},
        {"local": "anyone"},
        {"trusted_proxies": ["127.0.0.1"]},
        {"root_path": "/ml"},
    ],
)
def test_others_do_not(setting: dict[str, Any]) -> None:
    assert not GatewaySettings.model_validate(setting).shows_tracebacks
