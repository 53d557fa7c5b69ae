"""Whether the certificate can be served and its key is safe, before anything is started."""

from __future__ import annotations

from collections.abc import Iterator

from skipper.errors import StartError
from skipper.exits import Exit
from skipper.settings.model import Settings


def warnings(settings: Settings) -> Iterator[str]:
    """What is to be logged at the start. Raises StartError for a certificate that is none."""
    pair = settings.tls_files
    if pair is None:
        return
    from skipper import tls  # here, because a start without TLS needs no OpenSSL

    try:
        tls.server_context(*pair)
    except ValueError as error:
        raise StartError(f"gateway.tls_cert, tls_key: {error}.", code=Exit.INVALID) from None
    if tls.is_open_to_others(pair[1]):
        yield f"gateway.tls_key: every user of this machine may read {pair[1]}; chmod 600 it"
