"""What an operator should know of how open the gateway is, before anybody asks it.

Wrong settings stop a start in :mod:`skipper.settings.loading`; here is what must be read to be
judged, and what is allowed and seldom meant.
"""

from __future__ import annotations

from collections.abc import Iterator

from skipper.errors import StartError
from skipper.exits import Exit
from skipper.settings.model import Settings, is_loopback


def warnings(settings: Settings) -> Iterator[str]:
    """What is to be logged at the start. Raises StartError for a certificate that is none."""
    gateway, pair = settings.gateway, settings.tls_files
    if pair is not None:
        from skipper import tls  # here, because a start without TLS needs no OpenSSL

        try:
            tls.server_context(*pair)
        except ValueError as error:
            raise StartError(f"gateway.tls_cert, tls_key: {error}.", code=Exit.INVALID) from None
        if tls.is_open_to_others(pair[1]):
            yield f"gateway.tls_key: every user of this machine may read {pair[1]}; chmod 600 it"
    is_far = settings.gateway_socket is None and not is_loopback(gateway.host)
    if is_far and pair is None and not gateway.trusted_proxies:
        yield (
            f"keys and data go over the network in clear to gateway.host = {gateway.host!r}: set "
            "gateway.tls_cert and tls_key, or name the proxy before it in gateway.trusted_proxies"
        )
