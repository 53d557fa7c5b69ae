import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skipper.gateway import request_ids
from tests.unit.gateway.asgi import request


async def answered(headers: dict[str, str], own: dict[str, str] | None = None) -> str:
    """The id in the reply to a request with these headers, from an app that gives ``own``."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        send = request_ids.with_id(send, scope["headers"])
        await Response(headers=own or {})(scope, receive, send)

    return (await request(app, headers=headers)).headers["x-request-id"]


@pytest.mark.parametrize("given", ["a", "b-1.2:3_4", "x" * 128])
async def test_the_callers_own_id_comes_back(given: str) -> None:
    assert await answered({"X-Request-Id": given}) == given


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "é", "a\tb"])
async def test_what_is_no_id_is_replaced_by_a_new_one(given: str) -> None:
    first, second = [await answered({"X-Request-Id": given}) for _ in range(2)]
    assert given != first != second


async def test_an_id_that_a_reply_has_already_is_left_alone() -> None:
    assert await answered({"X-Request-Id": "mine"}, {"X-Request-Id": "theirs"}) == "theirs"
