"""Run rounds of ``python -m tests.chaos`` and print a table for each; 1 for a broken promise."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import campaign
from tests.chaos.plan import BACKENDS, ROLES, Round
from tests.chaos.points import every
from tests.chaos.report import table

_SHOWN = 40


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left behind
    arguments = _parser().parse_args()
    is_good = True
    for seed in range(arguments.seed, arguments.seed + arguments.rounds):
        round_ = Round(
            seed=seed,
            tasks=arguments.tasks,
            kills=arguments.kills,
            roles=tuple(arguments.roles.split(",")),
            backend=arguments.backend,
            points=tuple(arguments.points.split(","))
            if arguments.points
            else every(arguments.hits),
            stops=arguments.stops,
            launchers=arguments.launchers,
            restarts=arguments.restarts,
            cuts=arguments.cuts,
            machines=arguments.machines,
            pause_s=arguments.pause,
            calm_s=arguments.calm,
        )
        is_good &= _run(round_, keep=arguments.keep)
    return 0 if is_good else 1


def _run(round_: Round, *, keep: bool) -> bool:
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{round_.seed}-"))
    print(f"{round_}\nin {folder}", file=sys.stderr)
    outcome = campaign.run(round_, folder)
    print(table(outcome), flush=True)
    for violation in outcome.violations[:_SHOWN]:
        print(f"  {violation.kind}: {violation.text[:600]}")
    if outcome.is_good and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"  {len(outcome.violations)} violations; all that is known is in {folder}")
    return outcome.is_good


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    add = parser.add_argument
    add("--seed", type=int, default=int(time.time()), help="default: the time")
    add("--rounds", type=int, default=1, help="this many, with seeds counting up")
    add("--tasks", type=int, default=2000)
    add("--kills", type=int, default=10, help="of each role")
    add("--roles", default=",".join(ROLES), help="whom to kill; default: %(default)s")
    add("--backend", choices=BACKENDS, default="valkey")
    add("--hits", type=int, default=0, help="of each failpoint")
    add("--points", default="", help="in place of --hits: these failpoints, parted by commas")
    add("--stops", type=int, default=0, help="processes to stop for 15 s and wake again")
    add("--launchers", type=int, default=0, help="kills of the launcher itself")
    add("--restarts", type=int, default=0, help="ends by SIGTERM in the middle of the work")
    add("--cuts", type=int, default=0, help="kills of every process at once")
    add("--machines", type=int, default=1, help="trees that share the work (rabbit only)")
    add("--pause", type=float, default=1.8, help="mean seconds between two faults")
    add("--calm", type=float, default=0.0, help="seconds of load at least, with or without faults")
    add("--keep", action="store_true", help="keep the folder of a good round, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
