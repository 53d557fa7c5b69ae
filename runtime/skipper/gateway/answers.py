"""What several routes answer with: a problem, a task, what a direct call would have answered."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

from starlette.responses import JSONResponse, Response

from skipper import problems
from skipper.errors import FullError, SkipperError, UnavailableError
from skipper.gateway.browsers import FOR_BROWSERS
from skipper.gateway.contents import WantedContent, check_accepted, content_response
from skipper.gateway.context import Context
from skipper.gateway.http.asgi import AsgiView, GoneError
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.links import link
from skipper.gateway.prefer import MINIMAL
from skipper.gateway.problems import Problem, from_outcome
from skipper.ledger.records import FileRecord, Result
from skipper.outcomes import Outcome
from skipper.task import Task
from skipper.tasks.documents import timestamp
from skipper.tasks.results import reply_of
from skipper.values.envelope import Part, is_envelope, unpack
from skipper.values.store import reason_of
from skipper.values.value import JSON

log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = "1"
"""How soon a caller is to come back, in seconds, where nothing better is known."""

Headers = list[tuple[bytes, bytes]]


def json_bytes(value: Any) -> bytes:
    """``value`` as JSON in UTF-8. A lone surrogate, which UTF-8 has not, becomes a question mark.

    What functions raise and log is text of theirs: one such letter must not hide a list of tasks.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


class Json(JSONResponse):
    """A JSON document, whatever text of functions it holds."""

    def render(self, content: Any) -> bytes:
        return json_bytes(content)


@lru_cache(maxsize=1000)  # because every direct call asks for one of a few
def served_headers(served: bytes) -> Headers:
    """The headers that name the code, models and deployments of a reply. Not to be changed."""
    code, *others = served.split(b" ")
    headers = [(b"x-skipper-code", code)] if code else []
    if models := [each for each in others if b"/" not in each]:
        headers.append((b"x-skipper-model", b", ".join(models)))
    if deployments := [each for each in others if b"/" in each]:
        headers.append((b"x-skipper-deployment", b", ".join(deployments)))
    return headers


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as an answer to a request, with further ``headers``."""
    status, own = problem.kind.status, dict(headers or {})
    if problem.retry_after_s is not None:
        own["Retry-After"] = str(problem.retry_after_s)
    elif status == 503:
        own["Retry-After"] = RETRY_AFTER_S
    elif status == 401:
        own["WWW-Authenticate"] = "Bearer"
    response = Response(json_bytes(problem.document()), status, own, PROBLEM_TYPE)
    response.raw_headers.extend(served_headers(problem.served))
    return response


def respond(exchange: Exchange, response: Response) -> None:
    """Answer an exchange with a whole ``response``, and with what browsers are told."""
    own = [header for header in response.raw_headers if header[0] != b"content-length"]
    names = {name for name, _ in own}
    more = [header for header in FOR_BROWSERS if header[0] not in names]
    exchange.respond(response.status_code, own + more, bytes(response.body))


@contextmanager
def failures_answered(view: AsgiView, what: str) -> Iterator[None]:
    """What is raised within is answered, if the caller is there; the log names it by ``what``."""
    exchange = view.exchange
    try:
        yield
    except GoneError:
        return
    except Problem as problem:
        respond(exchange, problem_response(problem))
    except UnavailableError as error:
        respond(exchange, problem_response(Problem(problems.UNAVAILABLE, str(error))))
    except asyncio.CancelledError:  # the server shuts down, and its grace is at an end
        view.fail(problems.UNAVAILABLE, "the gateway shuts down")
        raise
    except Exception:
        log.exception("%s failed in the gateway", what, extra={"request": exchange.request_id})
        view.fail(problems.INTERNAL, "the gateway's log tells more")


async def task_response(
    context: Context, task: Task, status: int = 200, **members: object
) -> Response:
    """A task's document with further ``members``; Retry-After while it has not ended."""
    headers = {} if task.state.is_terminal else {"Retry-After": RETRY_AFTER_S}
    return Json(await context.tasks.document(task) | members, status, headers)


async def accepted_response(context: Context, task: Task) -> Response:
    """202 with the document of a task that has just been accepted, and where it is."""
    response = await task_response(context, task, 202)
    response.headers["Location"] = link(f"/v1/tasks/{task.id}")
    return response


def file_document(record: FileRecord) -> dict[str, Any]:
    """A file as callers see it."""
    return {
        "id": record.id,
        "size": record.size,
        "media_type": record.media_type,
        "name": record.name,
        "sha256": record.ref,
        "created_at": timestamp(record.created_at),
        "expires_at": timestamp(record.expires_at),
    }


def json_part(text: bytes) -> Part:
    """JSON as a part."""
    return Part(media_type=JSON, size=len(text), data=text)


@contextmanager
def storing(what: str) -> Iterator[None]:
    """Raise Problem for what keeps ``what`` from being stored: no room, or no ledger."""
    try:
        yield
    except FullError as error:
        raise Problem(problems.NO_ROOM, str(error)) from None
    except SkipperError as error:  # before OSError, because UnavailableError is one
        raise Problem(problems.UNAVAILABLE, str(error)) from None
    except OSError as error:
        detail = f"{what} cannot be stored: {reason_of(error)}"
        raise Problem(problems.NO_ROOM, detail) from None


async def kept_response(context: Context, part: Part, served: bytes) -> Response:
    """The document of a file, in which a value is kept from now on. What was in the spool is not.

    Raises Problem where there is no room for it, or the ledger is away.
    """
    spool = context.values.spool
    with storing("the value"):
        if part.data is not None:
            name = await asyncio.to_thread(spool.put, part.data)
            part = replace(part, data=None, spool=name)
        try:
            record = await context.files.add(part)
        finally:
            spool.remove([part.spool] if part.spool is not None else ())
    response = Json(file_document(record))
    response.headers["Preference-Applied"] = MINIMAL
    response.headers["Content-Location"] = link(f"/v1/files/{record.id}")
    response.raw_headers.extend(served_headers(served))
    return response


async def answer_of_task(
    context: Context, result: Result, wanted: WantedContent, *, is_minimal: bool = False
) -> Response:
    """What a direct call would have answered, as far as it is wanted.

    Where that ``is_minimal`` it is the document of a file, in which the value is kept. Raises
    Problem for a value of a type that is not accepted, and for a Range of nothing.
    """
    reply = await reply_of(result, context.values)
    if reply.outcome is Outcome.OK and is_envelope(reply.body):
        part = unpack(reply.body).sole
        if part is None:
            detail = "the value was made for the function that asked for it; it is no caller's type"
            raise Problem(problems.NOT_ACCEPTABLE, detail)
        if is_minimal:
            check_accepted(wanted.accept, part)
            return await kept_response(context, part, reply.served)
        content = content_response(part, context.values, wanted)
        content.raw_headers.extend(served_headers(reply.served))
        return content
    if reply.outcome is Outcome.OK and is_minimal:
        return await kept_response(context, json_part(reply.body), reply.served)
    if reply.outcome is Outcome.OK:
        response = Response(reply.body, 200, media_type=reply.media_type)
        response.raw_headers.extend(served_headers(reply.served))
        return response
    task = result.task
    return problem_response(
        from_outcome(
            reply.outcome,
            reply.body,
            served=reply.served,
            with_traceback=context.shows_tracebacks,
            function=task.function,
            task_id=task.id,
        )
    )
