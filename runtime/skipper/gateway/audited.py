"""What the audit is told of an exchange, once it is known how it ends."""

from __future__ import annotations

import time
from functools import partial

from skipper.gateway.access.door import Admission
from skipper.gateway.access.pages import READING
from skipper.gateway.audit import MAX_PATH, Audit, Request, function_of
from skipper.gateway.http import asgi
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.proxies import Proxies


class Audited:
    """Tells the audit of exchanges that changed something or were refused."""

    def __init__(self, audit: Audit, proxies: Proxies) -> None:
        self._audit, self._proxies = audit, proxies

    def follow(self, exchange: Exchange, admission: Admission) -> None:
        """Tell of this exchange at the beginning of its answer, or where there is none."""
        is_refused = admission.reason is not None
        if self._audit.is_on and (is_refused or exchange.head.method not in READING):
            exchange.on_outcome = partial(self._tell, admission)

    def _tell(self, admission: Admission, exchange: Exchange) -> None:
        head, reason = exchange.head, admission.reason.value if admission.reason else ""
        is_call, task = function_of(head.path) != "", _task_of(exchange)
        if is_call and not (self._audit.has_calls or reason or task):
            return
        request = Request(
            client=self._proxies.client(asgi.scope_of(exchange)),
            key=admission.key,
            method=head.method,
            path=head.path[:MAX_PATH],
            status=exchange.status,
            reason=reason,
            at=time.time(),
            request_id=exchange.request_id,
            task=task,
        )
        if reason or (not is_call and exchange.status >= 400):
            self._audit.refused(request)
        else:
            self._audit.record(request)


def _task_of(exchange: Exchange) -> str:
    """The id of the task that a request began; empty for none."""
    found = next((value for name, value in exchange.answered if name == b"location"), b"")
    return found.rpartition(b"/")[2].decode()
