"""Run the unit floor on the other Pythons that Skipper claims: `make test-pythons`.

Each Python that this machine has gets an environment of its own beside .venv, from the lock of the
tests, which has no TensorFlow. What was run and what is not there is reported; a test that was
skipped for any other reason is an error, since a skip must not hide a gap.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tools import bootstrap

ROOT = bootstrap.ROOT
LOCK = bootstrap.lock_file("tests")
NEWEST = "--newest"
ALLOWED_SKIP = "TensorFlow is not installed"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What became of the tests on one Python."""

    passed: int
    failed: int
    skips: tuple[str, ...]
    """The reason of each skipped test."""

    @property
    def unexpected(self) -> list[str]:
        """Reasons, once each, that must not keep a test from running."""
        return sorted({skip for skip in self.skips if ALLOWED_SKIP not in skip})

    @property
    def is_good(self) -> bool:
        return self.passed > 0 and self.failed == 0 and not self.unexpected


def main(arguments: list[str]) -> int:
    """Run all, or with ``--newest`` one; the exit code. Other ``arguments`` are for pytest."""
    in_use = (sys.version_info.major, sys.version_info.minor)
    versions = [(3, minor) for minor in range(bootstrap.OLDEST[1], bootstrap.NEWEST[1] + 1)]
    others = [version for version in versions if version != in_use]
    if NEWEST in arguments:
        arguments, others = [each for each in arguments if each != NEWEST], others[-1:]
    try:
        reports = [run_on(version, arguments) for version in others]
    except bootstrap.SetupError as error:
        report(str(error))
        return 1
    for line, _ in reports:
        report(line)
    report("Python {}.{}: in .venv; make test-unit runs them all".format(*in_use))
    return 0 if all(is_good for _, is_good in reports) else 1


def run_on(version: tuple[int, int], arguments: list[str]) -> tuple[str, bool]:
    """Run the unit floor on one Python; the line to report, and whether nothing is wrong."""
    name = "Python {}.{}".format(*version)
    python = find(version)
    if python is None:
        return f"{name}: not on this machine", True
    started = time.monotonic()
    venv = ROOT / ".venv-{}.{}".format(*version)
    make(venv, python)
    report(f"running the unit floor on Python {python}")
    tally = run_tests(venv, arguments)
    line = (
        f"{name}: {tally.passed} passed, {tally.failed} failed, {len(tally.skips)} skipped"
        f" ({python.version}, without TensorFlow, {time.monotonic() - started:.0f} s)"
    )
    if tally.unexpected:
        line += f"; none may be skipped for: {'; '.join(tally.unexpected)}"
    return line, tally.is_good


def find(version: tuple[int, int]) -> bootstrap.Python | None:
    """The first Python of this version that can make virtual environments."""
    found = map(bootstrap.probe, bootstrap.pythons_here())
    return next((one for one in found if one and one.minor == version and one.has_venv), None)


def make(venv: Path, python: bootstrap.Python) -> None:
    """Have ``venv`` hold the lock of the tests and this project; nothing is done where it does."""
    stamp, wanted = venv / "skipper-stamp", digest(venv, python)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(venv, ignore_errors=True)
    report(f"making {venv.name} with Python {python}")
    bootstrap.run(python.executable, "-m", "venv", venv)
    bootstrap.install(venv, LOCK, "--quiet")
    bootstrap.compile_all(venv)
    bootstrap.install_project(venv)
    stamp.write_text(wanted, encoding="utf-8")


def digest(venv: Path, python: bootstrap.Python) -> str:
    """Names all that an environment is made from."""
    texts = (LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes())
    facts = (str(venv), python.version, bootstrap.skipper_version())
    return hashlib.sha256(b"\0".join((*texts, *map(str.encode, facts)))).hexdigest()


def run_tests(venv: Path, arguments: list[str]) -> Tally:
    """Run the unit floor in an environment."""
    with tempfile.TemporaryDirectory(prefix="skipper-pythons-") as folder:
        results = Path(folder, "results.xml")
        command: list[str | Path] = [bootstrap.python_of(venv), "-m", "pytest", "tests/unit"]
        command += ["-q", "-n", "3", "--dist", "loadfile", f"--junitxml={results}", *arguments]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code not in (0, 1) or not results.is_file():  # 1: some test failed
            raise bootstrap.SetupError(f"pytest ended with {code} on {venv.name}")
        return tally_of(ET.parse(results).iter("testcase"))


def tally_of(cases: Iterable[ET.Element]) -> Tally:
    """What pytest's report tells of its test cases."""
    passed = failed = 0
    skips = []
    for case in cases:
        skipped = case.find("skipped")
        if skipped is not None and skipped.get("type") == "pytest.skip":
            skips.append(skipped.get("message", ""))
        elif case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        else:
            passed += 1
    return Tally(passed=passed, failed=failed, skips=tuple(skips))


def report(line: str) -> None:
    """Show whoever waits what is being done."""
    print(f"test-pythons: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
