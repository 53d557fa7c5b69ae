"""A durable lane for each test, which a parameter of the test may have differ from a host's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.pool.durable.stage import Given, Stage, staged


@pytest.fixture
def given() -> Given:
    """How this test's stage differs from a host: a test's parameter of this name says so."""
    return Given()


@pytest.fixture
async def stage(ledger_url: str, tmp_path: Path, given: Given) -> AsyncIterator[Stage]:
    async with staged(ledger_url, tmp_path, given) as stage:
        yield stage
