"""`make bench`: measure, print the table, write bench/results.json and docs/benchmarks.md."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bench import machine, peers, results, tables
from bench.options import Bench
from bench.sections import ALL, LONG, SECTIONS

_BUSY = 0.5
"""Load per core from which the figures say more about others than about what is measured."""


_ONLY = f"of {', '.join(SECTIONS)}; and, not run unless named, {', '.join(LONG)}"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are stopped
    try:
        peers.need("wrk", "wrk")
        peers.PEERS.make()
    except peers.MissingError as error:
        peers.say(str(error))
        return 2
    _warn_of_load()
    wanted = arguments.only or SECTIONS
    told = _run_all(wanted, arguments)
    is_whole = len(told) == len(wanted)
    is_page = arguments.update or (is_whole and not arguments.only and arguments.scale >= 1)
    _keep(told, is_update=is_page)
    found = results.figures(told)
    print(f"{tables.goals(found)}\n{tables.comparisons(found)}", end="")
    return 0 if _all_went_well(told) and is_whole else 1


def _run_all(wanted: Sequence[str], arguments: argparse.Namespace) -> results.Sections:
    """Run sections one after the other; those that were over before an interruption, if any."""
    setting = {
        "commit": machine.commit(),
        "machine": machine.describe(),
        "versions": machine.versions(),
    }
    told: results.Sections = {}
    try:
        for name in wanted:
            told[name] = _run(name, _bench(arguments)) | setting
    except KeyboardInterrupt:
        peers.say("interrupted; what was measured so far is kept")
    return told


def _run(name: str, bench: Bench) -> dict[str, Any]:
    """Run one section; what it found, and what went wrong in it."""
    began, load, error = time.monotonic(), machine.load(), ""
    try:
        importlib.import_module(f"bench.sections.{name}").run(bench)
    except Exception:  # noqa: BLE001 - the other sections are worth measuring all the same
        error = traceback.format_exc()
        peers.say(f"{name} failed:\n{error}")
    took_s = time.monotonic() - began
    peers.say(f"{name}: {took_s:.0f} s")
    for table, text in tables.described(bench.figures, name):
        print(f"## {table.title}\n\n{text}", flush=True)
    if bench.scale < 1:
        bench.note(
            f"Counts were scaled by {bench.scale:g}: what the tables call sizes was smaller."
        )
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "took_s": took_s,
        "load_before": load,
        "rounds": bench.rounds,
        "seconds": bench.seconds,
        "scale": bench.scale,
        "notes": bench.notes,
        "error": error,
        "figures": bench.figures.described(),
    }


def _keep(told: results.Sections, *, is_update: bool) -> None:
    """Write the run down; let it take the place of what the page said of its sections."""
    run = peers.WORK / "runs" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    results.save(told, run)
    peers.say(f"every round is in {run.relative_to(peers.ROOT)}")
    if is_update:
        kept = results.merged(results.load(), told)
        results.save(kept, results.FILE)
        results.PAGE.write_text(results.page(kept), encoding="utf-8")
        peers.say(f"wrote {results.PAGE.relative_to(peers.ROOT)}")


def _all_went_well(told: results.Sections) -> bool:
    """Whether no section failed; else what did is told once more, after everything else."""
    errors = {name: section["error"] for name, section in told.items() if section["error"]}
    for name, error in errors.items():
        peers.say(f"{name} failed, and the page keeps what it said of it:\n{error}")
    return not errors


def _bench(arguments: argparse.Namespace) -> Bench:
    return Bench(
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        scale=arguments.scale,
        rabbitmq=arguments.rabbitmq,
        postgres=arguments.postgres,
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.scale = 1, 1.0, 0.01
    if arguments.update and arguments.scale < 1:
        parser.error("the page holds figures of full size only: --update needs --scale 1")
    return arguments


def _warn_of_load() -> None:
    load, cores = machine.load(), os.cpu_count() or 1
    if load > _BUSY * cores:
        peers.say(f"the machine is busy already (load {load:.1f} on {cores} cores)")


def _sections(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in ALL]:
        known = ", ".join(ALL)
        raise argparse.ArgumentTypeError(f"no section {', '.join(unknown)}; there are {known}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    add, default = parser.add_argument, Bench()
    add("--only", type=_sections, metavar="A,B", help=_ONLY)
    add("--rounds", type=int, default=default.rounds, help="default: %(default)s")
    add("--seconds", type=float, default=default.seconds, help="of each load; default: %(default)s")
    add("--scale", type=float, default=default.scale, help="of the counts; default: %(default)s")
    add("--rabbitmq", default=default.rabbitmq, metavar="URL")
    add("--postgres", default=default.postgres, metavar="URL")
    add("--quick", action="store_true", help="try everything out, measure nothing: 1 round of 1 s")
    add("--update", action="store_true", help="write the page although only some was measured")
    return parser


if __name__ == "__main__":
    sys.exit(main())
