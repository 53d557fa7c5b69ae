"""Whether a broker or a database elsewhere can be used: a wrong URL is reported in one line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from skipper.errors import StartError
from skipper.exits import Exit
from skipper.settings.masking import masked, secrets_of
from skipper.settings.model import Settings
from skipper.settings.redaction import Redactor

LIMIT_S = 10.0
_PAUSE_S = 0.25

Probe = Callable[[], str | None]
"""Says why something cannot be used, or nothing. Blocks for seconds at worst."""


async def check(settings: Settings, limit_s: float = LIMIT_S) -> None:
    """Return when all can be used. Raises :class:`StartError` for the first that cannot."""
    redact = Redactor(secrets_of(settings))
    for failure, probe in _elsewhere(settings):
        await _reach(probe, failure, limit_s, redact)


def _elsewhere(settings: Settings) -> Iterator[tuple[str, Probe]]:
    # Imported where there is something elsewhere: it would add 0.3 s to the start of every tree.
    if not settings.broker_is_embedded:
        from skipper.tasks import broker

        shown = masked(settings.broker.url)
        yield f"The broker {shown} cannot be used", lambda: broker.probe(settings)
    if settings.database_url.startswith("postgres"):
        from skipper.ledger import opening

        shown = masked(settings.database.url)
        yield f"The database {shown} cannot be used", lambda: opening.probe(settings.database_url)


async def _reach(probe: Probe, failure: str, limit_s: float, redact: Redactor) -> None:
    end = time.monotonic() + limit_s
    while (problem := await asyncio.to_thread(probe)) is not None:
        if time.monotonic() > end:
            told = redact(" ".join(problem.split()).rstrip("."))
            raise StartError(f"{failure}: {told}.", code=Exit.UNREACHABLE)
        await asyncio.sleep(_PAUSE_S)
