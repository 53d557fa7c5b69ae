"""``skipper models``: what is shown of versions, and how changes are told and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skipper.exits import Exit
from tests.unit.cli.stand_in import StandIn

Run = Callable[..., Any]


def test_a_model_is_shown_with_what_serves_and_its_versions(run: Run) -> None:
    lines = run("models", "show", "boston").stdout.splitlines()
    members = dict(line.split(maxsplit=1) for line in lines[: lines.index("")])
    assert (members["production"], members["previous"], members["revision"]) == ("2", "1", "2")
    assert [line.split()[1] for line in lines[lines.index("") + 2 :]] == ["3", "2", "1"]


def test_one_version_is_shown_in_full(run: Run) -> None:
    text = run("models", "show", "boston@previous").stdout
    assert "version" in text
    assert "rmse=3.1" in text
    assert "model.keras" in text
    assert json.loads(run("models", "show", "boston@1", "--json").stdout)["version"] == 1
    assert run("models", "show", "boston@9").exit_code == Exit.NOT_FOUND


def test_what_a_gate_has_said_is_shown_with_its_numbers(run: Run, gateway: StandIn) -> None:
    check = {"metric": "rmse", "rule": "max_ratio_to_production", "bound": 1.02, "value": 9.1}
    check |= {"production": 3.2, "ratio": 2.84, "passed": False, "why": "rmse ratio 2.84"}
    forced = {"by": "uid 7", "why": "the metric is wrong", "at": 1.0}
    gateway.models.gate = {"passed": False, "against": 2, "why": "rmse ratio 2.84"}
    gateway.models.gate |= {"checks": [check], "forced": forced}
    text = run("models", "show", "boston@1").stdout
    assert "kept out: rmse ratio 2.84" in text
    assert "version 2" in text
    assert "by uid 7: the metric is wrong" in text
    assert "max_ratio_to_production  1.02   9.1    3.2         2.84   no" in text


def test_two_versions_are_compared(run: Run) -> None:
    lines = run("models", "diff", "boston@1", "boston@2").stdout.splitlines()
    assert lines[0].split() == ["WHAT", "BOSTON@1", "BOSTON@2", "CHANGE"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["metrics.rmse"] == ["3.1", "3.2", "+0.1", "(+3.2%)"]
    assert rows["params.epochs"] == ["10", "20", "+10", "(+100.0%)"]
    assert rows["code"] == ["c1", "c2", "-"]
    assert "files.model.keras" in rows
    assert "files.same.txt" not in rows
    items = json.loads(run("models", "diff", "boston@1", "boston", "--json").stdout)["items"]
    assert items[0]["what"] == "metrics.rmse"
    assert "the same" in run("models", "diff", "boston", "boston@2").stderr


def test_a_version_is_promoted_and_rolled_back(run: Run, gateway: StandIn) -> None:
    text = run("models", "promote", "boston@1", "--why", "smaller").stdout
    assert "smaller" in text
    assert gateway.models.held.production == 1
    part = run("models", "promote", "boston@previous", "--percent", "10").stdout
    assert "2 (10 % of calls)" in part
    assert run("models", "promote", "boston@candidate").exit_code == 0
    assert (gateway.models.held.production, gateway.models.held.candidate) == (2, None)
    back = json.loads(run("models", "rollback", "boston", "--json").stdout)
    assert (back["production"], back["previous"]) == (1, 2)


def test_an_alias_is_given_and_taken_away(run: Run, gateway: StandIn) -> None:
    assert run("models", "alias", "boston@1", "best").exit_code == 0
    assert gateway.models.held.aliases == {"best": 1}
    assert run("models", "alias", "boston", "best", "--remove").exit_code == 0
    assert gateway.models.held.aliases == {}
    assert run("models", "alias", "boston", "best", "--remove").exit_code == Exit.NOT_FOUND


def test_a_conflict_says_who_was_first_and_what_to_do(run: Run) -> None:
    run("models", "promote", "boston@1", "--why", "smaller")
    result = run("models", "promote", "boston@2", "--revision", "2")
    assert result.exit_code == Exit.FAILED
    assert "at revision 3" in result.stderr
    assert "It was changed by x (smaller); look at `skipper models show boston`" in result.stderr


def test_what_cannot_serve_is_told_with_what_to_do(run: Run) -> None:
    result = run("models", "promote", "boston@3")
    assert result.exit_code == Exit.FAILED
    assert "version 3 of 'boston' is unfit" in result.stderr
    assert "lists the versions that are fit" in result.stderr


def test_what_a_gate_keeps_out_is_promoted_by_force_with_a_reason(
    run: Run, gateway: StandIn
) -> None:
    gateway.models.gate = {"passed": False, "against": 2, "why": "rmse"}
    refused = run("models", "promote", "boston@1")
    assert refused.exit_code == Exit.FAILED
    assert "add --force and --why" in refused.stderr
    assert run("models", "promote", "boston@1", "--force").exit_code == Exit.USAGE
    forced = run("models", "promote", "boston@1", "--force", "--why", "the metric is wrong")
    assert forced.exit_code == 0
    assert gateway.models.held.production == 1


def test_a_pool_that_is_late_is_named(run: Run, gateway: StandIn) -> None:
    gateway.models.pending = ["gpu"]
    assert "Pool gpu has not taken that in yet" in run("models", "rollback", "boston").stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("promote", "boston"), "say which version of boston: boston@9"),
        (("promote", "boston@0"), "names no version"),
        (("show", "a b"), "cannot name a model"),
        (("rollback", "a/b"), "cannot name a model"),
        (("diff", "boston@", "boston"), "names no version"),
        (("promote", "boston@1", "--percent", "101"), "less than or equal to 100"),
    ],
)
def test_what_names_no_version_is_a_mistake_of_the_command_line(
    run: Run, arguments: tuple[str, ...], words: str
) -> None:
    result = run("models", *arguments)
    assert result.exit_code == Exit.USAGE
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_old_versions_are_removed_and_who_holds_others_is_told(run: Run) -> None:
    result = run("models", "gc", "boston", "--keep-versions", "1", "--trial")
    assert result.stdout.splitlines()[1].split() == ["2", "production"]
    assert result.stderr == "Would remove: 1.\n"
    told = json.loads(run("models", "gc", "boston", "--keep-days", "30", "--json").stdout)
    assert (told["removed"], told["trial"]) == ([1], False)
    assert run("models", "gc", "boston").exit_code == Exit.USAGE


def test_a_version_is_exported_under_its_own_name(run: Run, tmp_path: Path) -> None:
    assert run("models", "export", "boston").stderr == "boston-2.tar: 0.0 MiB\n"
    assert (tmp_path / "boston-2.tar").read_bytes() == b"a tar"
    assert run("models", "export", "boston", "-o", str(tmp_path)).exit_code == Exit.USAGE
    assert run("models", "export", "boston@9").exit_code == Exit.NOT_FOUND


def test_a_version_is_imported_and_what_puts_it_in_production_is_told(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "boston.tar").write_bytes(b"a tar")
    told = run("models", "import", str(tmp_path / "boston.tar")).stderr
    assert "boston@4: stored. `skipper models promote boston@4`" in told
    shown = run("models", "import", str(tmp_path / "boston.tar"), "--as", "eu", "--json").stdout
    assert (json.loads(shown)["name"], json.loads(shown)["version"]) == ("eu", 4)
    (tmp_path / "boston.tar").write_bytes(b"rubbish")
    assert run("models", "import", str(tmp_path / "boston.tar")).exit_code != Exit.OK
    assert run("models", "import", str(tmp_path / "none.tar")).exit_code == Exit.USAGE
