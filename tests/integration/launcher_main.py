"""Runs a launcher with stand-ins as children: ``python launcher_main.py PROJECT PLANS [FLAGS]``.

PLANS is a file of JSON: a list of ``ChildPlan`` members. FLAGS is a JSON object of settings, and
``detach``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from skipper import launcher
from skipper.errors import StartError
from skipper.launcher.plan import ChildPlan
from skipper.settings.loading import load
from skipper.settings.model import Settings


def main() -> int:
    flags = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    detach = flags.pop("detach", False)
    settings, _ = load(Path(sys.argv[1]), flags)
    plans = tuple(ChildPlan(**members) for members in json.loads(Path(sys.argv[2]).read_text()))

    def planner(_: Settings, __: frozenset[str] | None) -> tuple[ChildPlan, ...]:
        return plans

    try:
        code = launcher.run(settings, detach=detach, planner=planner)
    except StartError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    if code == launcher.ALREADY_RUNNING:
        print("already running")
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
