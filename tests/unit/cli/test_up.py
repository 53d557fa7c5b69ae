"""``skipper up``: flags to settings; what the launcher's answer becomes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skipper import launcher
from skipper.cli import up
from skipper.errors import StartError
from skipper.exits import Exit
from skipper.settings.model import Settings

Started = list[tuple[Settings, dict[str, Any]]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """What the launcher was asked to run; it ends at once with 0."""
    calls: Started = []

    def run(settings: Settings, **options: Any) -> int:
        calls.append((settings, options))
        return 0

    monkeypatch.setattr(launcher, "run", run)
    return calls


def test_flags_become_settings(started: Started, tmp_path: Path) -> None:
    flags = "--port 9000 --reload --strict --log-format json --detach"
    assert up.main([*flags.split(), "--project", str(tmp_path)]) == 0
    settings, options = started[0]
    assert settings.gateway.port == 9000
    assert (settings.run.reload, settings.run.strict) == (True, True)
    assert settings.log.format == "json"
    assert options.pop("reread")() == settings, "the flags hold as often as the file is read"
    assert options == {"only": None, "detach": True}


def test_flags_that_are_not_given_leave_the_file_its_say(started: Started, tmp_path: Path) -> None:
    (tmp_path / "skipper.toml").write_text("[run]\nstrict = true\nreload = false\n")
    up.main(["--project", str(tmp_path)])
    assert (started[0][0].run.strict, started[0][0].run.reload) == (True, False)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ([], None),
        (["--only", "gateway"], {"gateway"}),
        (
            ["--only", "gateway, scheduler", "--only", "pool:gpu"],
            {"gateway", "scheduler", "pool:gpu"},
        ),
    ],
)
def test_only_may_be_repeated_or_have_commas(
    started: Started, flags: list[str], parts: set[str] | None
) -> None:
    up.main(flags)
    assert started[0][1]["only"] == parts


def test_a_start_that_fails_ends_with_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: Any, **__: Any) -> int:
        raise StartError("Port 8000 is taken.", code=7)

    monkeypatch.setattr(launcher, "run", run)
    assert up.main([]) == Exit.TAKEN
    assert capsys.readouterr().err == "error: Port 8000 is taken.\n"


def test_wrong_settings_end_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert up.main(["--host", "0.0.0.0"]) == Exit.INVALID
    assert "gateway.keys" in capsys.readouterr().err


def test_the_verb_leads_to_the_same_parser(run: Callable[..., Any], started: Started) -> None:
    assert run("up", "--port", "9001").exit_code == 0
    assert started[0][0].gateway.port == 9001
    assert "--log-format" in run("up", "--help").stdout
    assert run("up", "--nonsense").exit_code == Exit.USAGE
