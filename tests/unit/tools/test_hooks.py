"""What runs before a commit is what `make check` runs, out of the same environment."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text()


def test_the_hooks_before_a_commit_are_those_of_make_check() -> None:
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    wanted = re.findall(r"^\t(\.venv/bin/.+)$", check, re.MULTILINE)
    # They get the names of the files, and put the format right rather than complain.
    wanted = [line.replace(" --check", "").removesuffix(" .") for line in wanted]
    assert re.findall(r"entry: (.+)", HOOKS) == wanted
    assert len(wanted) == 4


def test_the_hooks_download_nothing() -> None:
    assert re.findall(r"repo: (.+)", HOOKS) == ["local"]
    assert set(re.findall(r"language: (.+)", HOOKS)) == {"system"}
