"""The campaign of a release: every role killed hundreds of times, every failpoint hit ten times,
on both back-ends. ``python -m tests.chaos.release``, or ``make chaos``.

It is made of seeded rounds of a few minutes. What each has shown is written down when it has ended,
so that a campaign which was interrupted goes on with the next round.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.chaos import campaign, summary
from tests.chaos.evidence import Violation
from tests.chaos.plan import BACKENDS, Round
from tests.chaos.record import Record
from tests.chaos.report import Figures, Outcome, table
from tests.chaos.sizes import SIZES, Size, missing, plan

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".chaos"
PAGE = ROOT / "docs" / "reliability.md"
_MAKE_UP = 3
"""Rounds that may follow the plan, to make up for what its rounds have missed."""


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left behind
    arguments = _parser().parse_args()
    size = SIZES[arguments.size]
    record = Record(FOLDER, arguments.name or arguments.size)
    if not arguments.report:
        record.keep_plan(plan(size))
        _run(record, size, arguments.backend or BACKENDS, arguments.minutes)
    print(shown := summary.table(record.rows(), size))
    if arguments.write:
        PAGE.write_text(summary.put_into(PAGE.read_text(), shown))
    return 0 if summary.is_good(record.rows()) else 1


def _run(record: Record, size: Size, backends: Sequence[str], minutes: float) -> None:
    """Run what is left of the campaign, but begin no round after so many minutes."""
    begun = time.monotonic()
    for round_ in _left(record, size, backends):
        if time.monotonic() - begun > minutes * 60:
            print("time is up; the same command goes on with the next round", file=sys.stderr)
            return
        record.add(_outcome(round_))


def _left(record: Record, size: Size, backends: Sequence[str]) -> Iterator[Round]:
    """The planned rounds that have not ended, then those that make up for what was missed."""
    planned = record.plan()
    for round_ in planned:
        if round_.backend in backends and not record.has(round_):
            yield round_
    for backend in backends:
        for extra in range(_MAKE_UP):
            seed = 1000 + len(planned) + BACKENDS.index(backend) * _MAKE_UP + extra
            round_or_none = missing(size, backend, record.total(backend), seed)
            if round_or_none is not None and not record.has(round_or_none):
                yield round_or_none


def _outcome(round_: Round) -> Outcome:
    """Run one round. What all is known of a bad one stays in its folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{round_.seed}-"))
    print(f"\n{time.strftime('%H:%M:%S')} round {round_.seed} on {round_.backend}, in {folder}")
    try:
        outcome = campaign.run(round_, folder)
    except (Exception, BaseExceptionGroup, pytest.fail.Exception):  # noqa: BLE001 - as said here:
        # whatever it is, a server that did not start for instance, the others can tell something.
        told = traceback.format_exc()
        outcome = Outcome(
            round=round_,
            violations=(Violation("aborted", told),),
            figures=Figures(found={"aborted": 1}),
        )
    print(table(outcome), flush=True)
    for violation in outcome.violations:
        print(f"  {violation.kind}: {violation.text[:2000]}", flush=True)
    if outcome.is_good:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.release", description=__doc__)
    add = parser.add_argument
    add("--size", choices=SIZES, default="release")
    add("--name", help="of the files below .chaos; default: the size")
    add("--minutes", type=float, default=float("inf"), help="begin no round after so many")
    add("--backend", action="append", choices=BACKENDS, help="this one alone; default: both")
    add("--report", action="store_true", help="run nothing, show what there is")
    add("--write", action="store_true", help="put the table into docs/reliability.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
