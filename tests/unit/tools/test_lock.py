"""The locks agree with each other and with what is asked for, and name no place on the net."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools import bootstrap, lock

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEXTS = {each.name: each.file.read_text() for each in lock.LOCKS}


def pins(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Each distribution's version, and the hashes of its files."""
    found = re.findall(r"^([\w.-]+)==(\S+).*\\\n((?:    --hash=.*\n?)+)", text, re.MULTILINE)
    return {
        name: (version, frozenset(re.findall(r"sha256:\w{64}", hashes)))
        for name, version, hashes in found
    }


def names(requirements: list[str]) -> set[str]:
    """What is asked for, without extras and versions."""
    return {bootstrap.normal(re.match(r"[\w.-]+", each)[0]) for each in requirements}  # type: ignore[index] # each begins with its name


def is_for_any(requirement: str, machines: tuple[str, ...]) -> bool:
    """Whether something is asked for on one of a lock's machines, by its marker."""
    marker = Requirement(requirement).marker
    facts = (re.findall(r"(\w+) == '(\w+)'", machine) for machine in machines)
    return marker is None or any(marker.evaluate(dict(each)) for each in facts)


def test_there_is_a_file_for_each_lock_and_no_other() -> None:
    assert {each.file for each in lock.LOCKS} == {*(ROOT / "requirements").glob("lock-*.txt")}


@pytest.mark.parametrize("name", TEXTS)
def test_a_lock_is_pins_with_hashes_and_nothing_else(name: str) -> None:
    lines = [line for line in TEXTS[name].splitlines() if not line.startswith("#")]
    shapes = (r"[\w.-]+==[\w.+!]+( ; .+)? \\", r"    --hash=sha256:\w{64}( \\)?")
    assert [line for line in lines if not any(re.fullmatch(each, line) for each in shapes)] == []
    assert len(pins(TEXTS[name])) == sum("==" in line.partition(" ;")[0] for line in lines) > 40


def test_what_two_locks_hold_is_the_same_release_with_the_same_files() -> None:
    seen: dict[str, tuple[str, frozenset[str]]] = {}
    for text in TEXTS.values():
        for name, pin in pins(text).items():
            assert seen.setdefault(name, pin) == pin, f"{name}: run `make lock`"


@pytest.mark.parametrize("each", lock.LOCKS, ids=lambda each: each.name)
def test_a_lock_holds_what_is_asked_for(each: lock.Lock) -> None:
    wanted = names(PROJECT["dependencies"])
    for extra in each.extras:
        asked = PROJECT["optional-dependencies"][extra]
        wanted |= names([one for one in asked if is_for_any(one, each.machines)])
    tools = names(re.findall(r"^[\w.-]+", lock.DEVELOPMENT.read_text(), re.MULTILINE))
    held = {bootstrap.normal(name) for name in pins(TEXTS[each.name])}
    assert wanted <= held, "pyproject.toml asks for more: run `make lock`"
    assert (tools <= held) if each.has_tools else not ({"pytest", "ruff", "mypy"} & held)
    assert ("keras" in held) == any(extra.startswith("tensorflow") for extra in each.extras)


def test_a_compiled_library_has_files_for_every_python_that_is_claimed() -> None:
    """The hashes are of all files of a release, so of those for Pythons that made no lock, too."""
    few = [name for name, (_, hashes) in pins(TEXTS["core"]).items() if len(hashes) < 10]
    assert not {"pydantic-core", "httptools", "uvloop", "watchfiles"} & {*few}
