"""What a function has returned to a direct call, where that is more than JSON."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from skipper import problems
from skipper.gateway.answers import kept_response, problem_response, served_headers
from skipper.gateway.browsers import FOR_BROWSERS, for_browsers
from skipper.gateway.contents import ContentResponse, check_accepted, headers_of, lost
from skipper.gateway.context import Context
from skipper.gateway.http import asgi
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.problems import Problem
from skipper.values.envelope import Part, unpack
from skipper.values.store import ValueStore, reason_of

MAPPED = 64 << 20
"""What is larger may not all be in memory, where to read it from a map would stop everybody."""


def sole_part(reply: bytes, accept: str, values: ValueStore) -> Part:
    """The value that an envelope is. What cannot be answered is forgotten.

    Raises Problem where its caller does not accept what it turned out to be.
    """
    envelope = unpack(reply)
    try:
        if (part := envelope.sole) is None:
            detail = "the reply is for another function, not for a caller"
            raise Problem(problems.INTERNAL, detail)
        check_accepted(accept, part)
    except Problem:
        values.spool.remove(envelope.spooled)
        raise
    return part


def answer_part(exchange: Exchange, part: Part, values: ValueStore, served: bytes) -> None:
    """Answer with what a function has returned.

    What lies in the spool was written for this one answer: it is mapped, and forgotten before the
    first byte is sent. So it goes whatever becomes of its caller. Raises Problem where it is gone.
    """
    named = [(name.lower().encode(), text.encode()) for name, text in headers_of(part).items()]
    headers = [*named, *served_headers(served), *FOR_BROWSERS]
    if part.data is not None:
        exchange.respond(200, headers, part.data)
    elif part.spool is not None and part.size <= MAPPED:
        try:
            view = values.spool.view(part.spool)
        except OSError as error:
            raise lost(f"is no longer stored: {reason_of(error)}") from None
        finally:
            values.spool.remove([part.spool])
        exchange.respond(200, headers, view, is_mapped=True)
    else:
        response = ContentResponse(part, values)
        response.raw_headers += served_headers(served)
        asgi.answer(answering(response), exchange)


def keeping(context: Context, part: Part, served: bytes) -> asgi.Application:
    """An application that keeps a value as a file, and answers with the file's document."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            response = await kept_response(context, part, served)
        except Problem as problem:
            response = problem_response(problem)
        await response(scope, receive, for_browsers(send))

    return app


def answering(response: Response) -> asgi.Application:
    """An application that answers with ``response``, and with what browsers are told.

    Or with the problem that shows before it begins.
    """

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await response(scope, receive, for_browsers(send))
        except Problem as problem:
            await problem_response(problem)(scope, receive, for_browsers(send))

    return app
