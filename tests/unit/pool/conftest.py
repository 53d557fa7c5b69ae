"""A ledger of its own for all tests of the pool; each test has its own tasks in it."""

from collections.abc import Iterator

import pytest

from skipper.ledger import Ledger


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}"
    with Ledger.open(url) as opened:
        yield opened
