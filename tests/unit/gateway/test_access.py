import pytest
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from skipper.gateway.access import Access
from skipper.settings.model import GatewaySettings
from tests.unit.gateway.asgi import Answer, request

KEYS = (SecretStr("one-key"), SecretStr("another-key"))


class Inside:
    """What is behind the door: keeps who came in."""

    def __init__(self) -> None:
        self.seen: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        self.seen.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"inside"})


async def knock(
    settings: GatewaySettings,
    headers: dict[str, str],
    *,
    method: str = "POST",
    path: str = "/v1/functions/a.b/invoke",
) -> Answer:
    """Ask for entry; nobody who is refused has been inside."""
    inside = Inside()
    answer = await request(Access(inside, settings), method, path, headers)
    assert bool(inside.seen) is (answer.status == 200)
    return answer


def settings(host: str = "127.0.0.1", *hosts: str, keys: bool = False) -> GatewaySettings:
    return GatewaySettings(host=host, allowed_hosts=hosts, keys=KEYS if keys else ())


@pytest.mark.parametrize(
    ("gateway", "host", "status"),
    [
        (settings(), "localhost:8000", 200),
        (settings(), "LOCALHOST", 200),
        (settings(), "127.0.0.1:8000", 200),
        (settings(), "[::1]:8000", 200),
        (settings("127.0.0.2"), "127.0.0.2", 200),
        (settings(), "evil.example", 421),
        (settings(), "localhost.evil.example", 421),
        (settings(), "[::1", 200),
        (settings(), "", 421),
        (settings("127.0.0.1", "skipper.test"), "skipper.test:80", 200),
        (settings("127.0.0.1", "Skipper.Test"), "skipper.test", 200),
        (settings("127.0.0.1", "skipper.test"), "localhost", 200),
        (settings("0.0.0.0", keys=True), "anything.example", 200),
        (settings("0.0.0.0", "skipper.test", keys=True), "anything.example", 421),
        (settings("0.0.0.0", "skipper.test", keys=True), "skipper.test", 200),
        (settings("10.0.0.7", "skipper.test", keys=True), "10.0.0.7:80", 200),
    ],
)  # fmt: skip
async def test_only_hosts_that_are_served_are_answered(
    gateway: GatewaySettings, host: str, status: int
) -> None:
    headers = {"Host": host, "X-API-Key": "one-key"}
    assert (await knock(gateway, headers)).status == status


async def test_a_request_without_a_host_is_refused_on_loopback() -> None:
    assert (await knock(settings(), {})).status == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer one-key"}, 200),
        ({"Authorization": "bearer another-key"}, 200),
        ({"Authorization": "Bearer  one-key "}, 200),
        ({"X-API-Key": "another-key"}, 200),
        ({}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic one-key"}, 401),
        ({"Authorization": "one-key"}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": "one-ke"}, 401),
        ({"X-API-Key": "one-keys"}, 401),
        ({"X-API-Key": "ONE-KEY"}, 401),
        ({"Cookie": "key=one-key"}, 401),
    ],
)
async def test_where_keys_are_set_one_of_them_is_needed(
    headers: dict[str, str], status: int
) -> None:
    answer = await knock(settings(keys=True), {"Host": "localhost"} | headers)
    assert answer.status == status
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert "one-key" not in answer.body.decode()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/livez", 200),
        ("/readyz", 200),
        ("/readyz/", 401),
        ("/livez/../v1/functions", 401),
        ("/metrics", 401),
        ("/docs", 401),
        ("/openapi.json", 401),
        ("/v1/functions", 401),
        ("/", 401),
    ],
)
async def test_only_probes_are_open_to_those_without_a_key(path: str, status: int) -> None:
    answer = await knock(settings(keys=True), {"Host": "localhost"}, method="GET", path=path)
    assert answer.status == status


@pytest.mark.parametrize(
    ("method", "site", "status"),
    [
        ("POST", "cross-site", 403),
        ("DELETE", "cross-site", 403),
        ("GET", "cross-site", 200),
        ("HEAD", "cross-site", 200),
        ("POST", "same-origin", 200),
        ("POST", "none", 200),
    ],
)
async def test_another_sites_page_may_look_but_not_act(method: str, site: str, status: int) -> None:
    headers = {"Host": "localhost", "Sec-Fetch-Site": site}
    assert (await knock(settings(), headers, method=method)).status == status


async def test_a_refusal_is_a_problem_document() -> None:
    answer = await knock(settings(), {"Host": "evil.example"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 421
    assert "evil.example" in answer.json["detail"]


async def test_what_is_no_request_passes_unseen() -> None:
    inside = Inside()
    scope = {"type": "lifespan"}
    await Access(inside, settings(keys=True))(scope, None, None)  # type: ignore[arg-type] # unused
    assert inside.seen == [scope]


async def test_who_may_come_in_comes_in_unchanged() -> None:
    inside = Inside()
    await request(
        Access(inside, settings()), "POST", "/x", {"Host": "localhost", "Prefer": "wait=1"}
    )
    (scope,) = inside.seen
    assert (scope["method"], scope["path"]) == ("POST", "/x")
    assert (b"prefer", b"wait=1") in scope["headers"]
