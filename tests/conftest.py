"""What every test may rely on."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the runtime does."""
    return "asyncio"
