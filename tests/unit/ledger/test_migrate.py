"""Which migration is the newest is written down, so that a start need not look for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from skipper.ledger import migrate
from skipper.ledger.migrate import EVENTS, LEDGER, Branch


@pytest.mark.parametrize("branch", [LEDGER, EVENTS])
def test_the_head_is_the_newest_migration_there_is(branch: Branch) -> None:
    """A database that is one behind would not be brought up to date."""
    files = (Path(migrate.__file__).with_name("migrations") / branch.name).glob("[0-9]*.py")
    assert branch.head == max(file.name.partition("_")[0] for file in files)
