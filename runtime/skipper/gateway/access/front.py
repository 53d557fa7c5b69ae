"""The door before whoever answers."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from skipper.gateway.access.door import Admission, Door
from skipper.gateway.answers import problem_response, respond
from skipper.gateway.http.exchange import Exchange


class Front:
    """Answers what must not come in; everything else is for ``answer``.

    ``follow`` is told of each exchange and what was decided about it, before it is answered.
    """

    def __init__(
        self,
        answer: Callable[[Exchange], None],
        door: Door,
        follow: Callable[[Exchange, Admission], None] | None = None,
    ) -> None:
        self._answer, self._door, self._follow = answer, door, follow

    def begin(self, exchange: Exchange) -> None:
        admission = self._door.admit(exchange.head, exchange.peer)
        exchange.headers = admission.headers
        if self._follow is not None:
            self._follow(exchange, admission)
        if admission.problem is not None:
            respond(exchange, problem_response(admission.problem))
        elif admission.is_answered:
            respond(exchange, Response(status_code=204))
        else:
            self._answer(exchange)
