"""Has the access policy judge a request before anybody answers it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from skipper.gateway.access.policy import AccessDecision, AccessPolicy
from skipper.gateway.answers import problem_response, respond
from skipper.gateway.http.exchange import Exchange


class AccessMiddleware:
    """Answers what must not come in; everything else is for ``answer``.

    ``follow`` is told of each exchange and what was decided about it, before it is answered.
    """

    def __init__(
        self,
        answer: Callable[[Exchange], None],
        policy: AccessPolicy,
        follow: Callable[[Exchange, AccessDecision], None] | None = None,
    ) -> None:
        self._answer, self._policy, self._follow = answer, policy, follow

    def begin(self, exchange: Exchange) -> None:
        admission = self._policy.admit(exchange.head, exchange.peer)
        exchange.headers, exchange.key = admission.headers, admission.key
        if self._follow is not None:
            self._follow(exchange, admission)
        if admission.problem is not None:
            respond(exchange, problem_response(admission.problem))
        elif admission.is_answered:
            respond(exchange, Response(status_code=204))
        else:
            self._answer(exchange)
