"""What runs have found, in a file; and the page that is made from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench import peers, tables
from bench.figures import Figures
from bench.sections import SECTIONS

FILE = peers.ROOT / "bench" / "results.json"
PAGE = peers.ROOT / "docs" / "benchmarks.md"

_HEAD = """# Benchmarks

`make bench` wrote this page: it installs the peers into an environment of their own and measures
everything in one run on one machine. The figures are this machine's; the ratios travel better.

{machine}

Each figure is the median of its rounds, with the lowest and the highest in brackets. Rounds are
interleaved: in each, one system after the other is started, warmed, measured and stopped, alone on
the machine. A ratio is that of two figures of the same round, and then the median. wrk makes the
load, on the same machine. Every server listens on loopback, with one worker process and its own
defaults, without an access log.

    make bench                                   # all of it
    make bench ARGS="--only direct,tasks"        # some of it
    make bench ARGS="--rounds 5 --seconds 10"

## Against the goals

{goals}
"""
_TAIL = """
## Versions

{versions}

Every round of every figure stands in `bench/results.json`.
"""


def load(file: Path = FILE) -> dict[str, Any]:
    """What an earlier run has left, section by section."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = {}
    return found or {"machine": {}, "versions": {}, "sections": {}}


def save(results: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def figures(results: dict[str, Any]) -> Figures:
    """All figures of all sections."""
    return Figures(
        {
            name: found["rounds"]
            for section in results["sections"].values()
            for name, found in section["figures"].items()
        }
    )


def page(results: dict[str, Any]) -> str:
    """docs/benchmarks.md."""
    found = figures(results)
    text = _HEAD.format(machine=_listed(results["machine"]), goals=tables.goals(found))
    for section in SECTIONS:
        if section in results["sections"]:
            text += _section(section, results["sections"][section], found)
    return text + _TAIL.format(versions=_listed(results["versions"]))


def _section(name: str, told: dict[str, Any], found: Figures) -> str:
    parts = []
    for table, text in tables.described(found, name):
        parts.append(f"\n## {table.title}\n\n{table.text}\n\n{text}")
    parts.append(
        f"\n{told['at']}, rounds: {told['rounds']}, loads of {told['seconds']:g} s; "
        f"load of the machine before: {told['load_before']:.1f}.\n"
    )
    parts += [f"\n{note}\n" for note in told["notes"]]
    return "".join(parts)


def _listed(facts: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
