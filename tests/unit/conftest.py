"""Empty ledgers, quickly."""

import shutil
from pathlib import Path

import pytest

from skipper.ledger import Ledger


@pytest.fixture(scope="session")
def blank_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a ledger that nothing has been written to."""
    folder = tmp_path_factory.mktemp("blank")
    Ledger.open(f"sqlite:///{folder / 'ledger.db'}").close()
    return folder


@pytest.fixture
def ledger_url(blank_ledger: Path, tmp_path: Path) -> str:
    """A ledger of the test's own; making its tables anew would take most of the test's time."""
    shutil.copytree(blank_ledger, tmp_path, dirs_exist_ok=True)
    return f"sqlite:///{tmp_path / 'ledger.db'}"
