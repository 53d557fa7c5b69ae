"""The campaign by hand: a number of cases from a seed, and a table of what came of them."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.acceptance.conftest import PLAIN
from tests.acceptance.tree import Tree, lent
from tests.security.mutations.campaign import campaign
from tests.security.mutations.findings import Findings, total


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        shutil.copytree(PLAIN, project, ignore=shutil.ignore_patterns("__pycache__"))
        with lent(Tree(project)) as tree:
            found = campaign(
                tree.ready(), arguments.cases, arguments.seed, arguments.processes, _tell
            )
            tree.end()
    print(file=sys.stderr)
    for drive, findings in found.items():
        _show(drive, findings)
    return 1 if total(found.values()).wrong else 0


def _tell(found: Findings) -> None:
    wrong = found.wrong.total()
    print(f"\r{found.cases} cases, {wrong} wrong", end="", file=sys.stderr, flush=True)


def _show(drive: str, findings: Findings) -> None:
    answers = ", ".join(f"{count} of {what}" for what, count in findings.answers.most_common())
    print(f"{drive}: {findings.cases} cases; {answers}")
    for what, count in findings.wrong.items():
        print(f"  WRONG: {count} of {what}")
    for text in findings.shown:
        print(f"    {text}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.security.mutations", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(code)
