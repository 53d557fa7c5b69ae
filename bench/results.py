"""What runs have found, in a file; and the page that is made from it.

Sections are kept one by one, each with the commit, day, machine and versions of its run: a later
run of some of them leaves the others as they were, and the page tells them apart.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench import peers, tables
from bench.figures import Figures
from bench.sections import ALL

FILE = peers.ROOT / "bench" / "results.json"
PAGE = peers.ROOT / "docs" / "benchmarks.md"

_HEAD = """# Benchmarks

`make bench` wrote this page: it installs the peers into an environment of their own and measures
everything on one machine. The figures are this machine's; the ratios travel better.

{machine}

Each figure is the median of its rounds, with the lowest and the highest in brackets. Rounds are
interleaved: in each, one system after the other is started, warmed, measured and stopped, alone on
the machine. A ratio is that of two figures of the same round, and then the median. wrk makes the
load, on the same machine. Every server listens on loopback, with its own defaults, without an
access log; the peers with one worker process each, Skipper with as many instances of a function as
it starts by itself, which the tables note. Below each section stand its commit, day and rounds.

    make bench                                   # all of it, in less than half an hour
    make bench ARGS="--only direct,tasks"        # some of it
    make bench ARGS="--rounds 5 --seconds 10"
    make bench ARGS="--only forks,nonce"         # what takes its time and runs only when named

`--update` puts what `--only` measured into this page, in place of what it said of those sections.

## Against the goals

{goals}
These are no goals, but what the figures above are to be read beside:

{comparisons}"""
_TAIL = """
## Versions

{versions}

Every round of every figure stands in `bench/results.json`.
"""

Sections = dict[str, dict[str, Any]]


def load(file: Path = FILE) -> Sections:
    """What earlier runs have left, section by section."""
    try:
        found: Sections = json.loads(file.read_text(encoding="utf-8"))["sections"]
    except FileNotFoundError:
        return {}
    return found


def save(sections: Sections, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"sections": sections}, indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def merged(kept: Sections, run: Sections) -> Sections:
    """What to keep after a run. A section in which something went wrong leaves the earlier one."""
    found = kept | {name: told for name, told in run.items() if not told["error"]}
    return {name: found[name] for name in ALL if name in found}


def figures(sections: Sections) -> Figures:
    """All figures of all sections."""
    return Figures(
        {
            name: found["rounds"]
            for section in sections.values()
            for name, found in section["figures"].items()
        }
    )


def page(sections: Sections) -> str:
    """docs/benchmarks.md."""
    found = figures(sections)
    text = _HEAD.format(
        machine=_facts(sections, "machine"),
        goals=tables.goals(found),
        comparisons=tables.comparisons(found),
    )
    for name, told in sections.items():
        text += _section(name, told, found)
    return text + _TAIL.format(versions=_facts(sections, "versions"))


def _section(name: str, told: dict[str, Any], found: Figures) -> str:
    parts = []
    for table, text in tables.described(found, name):
        parts.append(f"\n## {table.title}\n\n{table.text}\n\n{text}")
    parts.append(
        f"\nCommit {told['commit']}, {told['at']}, {told['took_s']:.0f} s; rounds: "
        f"{told['rounds']}, loads of {told['seconds']:g} s; load of the machine before: "
        f"{told['load_before']:.1f}.\n"
    )
    parts += [f"\n{note}\n" for note in told["notes"]]
    return "".join(parts)


def _facts(sections: Sections, kind: str) -> str:
    """The facts of one kind: once where all sections agree, else with whose they are."""
    owners: dict[str, list[str]] = {}
    for name, told in sections.items():
        owners.setdefault(_listed(told[kind]), []).append(name)
    if len(owners) == 1:
        return next(iter(owners))
    return "\n\n".join(f"{', '.join(names)}:\n\n{facts}" for facts, names in owners.items())


def _listed(facts: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
