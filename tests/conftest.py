"""What every test may rely on."""

import pytest
from hypothesis import settings

# A busy machine makes any single example slow; pytest's own limit is enough.
settings.register_profile("skipper", deadline=None, max_examples=60)
settings.load_profile("skipper")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the runtime does."""
    return "asyncio"
