"""What the audit is told of an exchange, once it is known how it ends."""

from __future__ import annotations

from functools import partial

from skipper.gateway.access.pages import READING
from skipper.gateway.access.policy import AccessDecision
from skipper.gateway.audit import MAX_PATH, Audit, AuditedRequest, function_of
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.proxies import Proxies


class Audited:
    """Tells the audit of exchanges that changed something or were refused."""

    def __init__(self, audit: Audit, proxies: Proxies) -> None:
        self._audit, self._proxies, self._has_calls = audit, proxies, audit.has_calls

    def follow(self, exchange: Exchange, admission: AccessDecision) -> None:
        """Tell of this exchange at the beginning of its answer, or where there is none."""
        if exchange.head.method not in READING or admission.reason is not None:
            exchange.on_outcome = partial(self._tell, admission)

    def _tell(self, admission: AccessDecision, exchange: Exchange) -> None:
        head, task = exchange.head, ""
        for name, value in exchange.answered:
            if name == b"location":
                task = value.rpartition(b"/")[2].decode()
        if not (self._has_calls or task or admission.reason) and function_of(head.path):
            return
        request = AuditedRequest(
            self._proxies.client(exchange.peer, head.headers),
            admission.key,
            head.method,
            head.path[:MAX_PATH],
            exchange.status,
            admission.reason or "",
        )
        self._audit.record(request, exchange.request_id, task)
