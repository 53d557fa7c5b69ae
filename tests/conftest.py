"""What every test may rely on."""

import signal

import pytest
from hypothesis import settings

# Had pytest been started in the background, its children would inherit that Ctrl-C or, with nohup,
# the terminal's end is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A busy machine makes any single example slow; pytest's own limit is enough.
settings.register_profile("skipper", deadline=None, max_examples=60)
settings.load_profile("skipper")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the runtime does."""
    return "asyncio"
