"""The webhooks plugin: signatures, addresses, and requests to a real receiver."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import skipper_webhooks
from skipper.settings import webhooks
from skipper.settings.model import Settings
from skipper_webhooks import SignatureError, addresses, posting, verify
from skipper_webhooks.addresses import Address, Reach, check, reach_of, resolve
from skipper_webhooks.endpoint import Endpoint
from skipper_webhooks.errors import DeliveryError, RefusedError
from skipper_webhooks.posting import post
from skipper_webhooks.signing import sign
from tests.unit.gateway.asgi import request

SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four.").decode()
OTHER = "whsec_" + base64.b64encode(b"the secret that follows.").decode()
NOW = 1_700_000_000.0


# --- signatures ------------------------------------------------------------------------------


def test_a_signature_is_the_one_that_standard_webhooks_libraries_make() -> None:
    """The example in the documentation of https://docs.svix.com/receiving/verifying-payloads."""
    headers = sign(
        b'{"test": 2432232314}',
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        id_="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at=1614265330.9,
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def signed(body: bytes = b"{}", secret: str = SECRET) -> dict[str, str]:
    return sign(body, secret, id_="e1", at=NOW)


def verified(body: bytes, headers: dict[str, str], *secrets: str, at: float = NOW) -> str:
    return verify(body, headers, *secrets or (SECRET,), clock=lambda: at)


@given(st.binary(max_size=200))
def test_what_is_signed_is_believed_in_any_case_of_letters(body: bytes) -> None:
    headers = {name.title(): value for name, value in signed(body).items()}
    assert verified(body, headers) == "e1"


@given(st.binary(min_size=1, max_size=50), st.integers(0, 49), st.integers(1, 255))
def test_one_changed_byte_is_noticed(body: bytes, place: int, change: int) -> None:
    changed = bytearray(body)
    changed[place % len(body)] ^= change
    with pytest.raises(SignatureError, match="changed"):
        verified(bytes(changed), signed(body))


@pytest.mark.parametrize(
    "headers",
    [
        signed() | {"webhook-id": "e2"},
        signed() | {"webhook-timestamp": str(int(NOW) + 1)},
        signed() | {"webhook-signature": ""},
        signed() | {"webhook-signature": "v1"},
        signed() | {"webhook-signature": "v1,é"},
        signed() | {"webhook-signature": "v1a," + signed()["webhook-signature"][3:]},
        signed(secret=OTHER),
    ],
)
def test_what_is_signed_otherwise_is_not_believed(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        verified(b"{}", headers)


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_a_request_may_be_some_minutes_old_or_ahead(seconds: float) -> None:
    assert verified(b"{}", signed(), at=NOW + seconds) == "e1"


@pytest.mark.parametrize("seconds", [-301, 301, 1e9])
def test_an_old_request_is_not_believed_again(seconds: float) -> None:
    with pytest.raises(SignatureError, match="within 300 s"):
        verified(b"{}", signed(), at=NOW + seconds)


@pytest.mark.parametrize("timestamp", ["", "now", "-1", "1.5", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_a_time_that_is_none_is_refused(timestamp: str) -> None:
    with pytest.raises(SignatureError, match="no time"):
        verified(b"{}", signed() | {"webhook-timestamp": timestamp})


@pytest.mark.parametrize("name", signed())
def test_a_missing_header_is_named(name: str) -> None:
    headers = {key: value for key, value in signed().items() if key != name}
    with pytest.raises(SignatureError, match=f"no header {name}"):
        verified(b"{}", headers)


def test_one_secret_can_take_anothers_place() -> None:
    assert verified(b"{}", signed(secret=OTHER), SECRET, OTHER) == "e1"
    both = " ".join(signed(secret=secret)["webhook-signature"] for secret in (OTHER, SECRET))
    assert verified(b"{}", signed() | {"webhook-signature": both}) == "e1"


_PAGE = Path(__file__).parents[3] / "docs" / "webhooks.md"


async def test_the_receiver_that_the_page_shows_believes_what_is_signed_and_nothing_else() -> None:
    (text,) = re.findall(r"```python\n(# the receiver\n.*?)```", _PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"SECRET": SECRET}
    exec(text, names)
    headers = sign(b"{}", SECRET, id_="e1", at=time.time())
    for status, body in ((204, b"{}"), (204, b"{}"), (401, b"[]")):
        answer = await request(names["app"], "POST", "/hooks/skipper", headers, body)
        assert answer.status == status, answer.body
    assert names["seen"] == {"e1"}


# --- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("93.184.216.34", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("::ffff:93.184.216.34", Reach.PUBLIC),
        ("64:ff9b::5db8:d822", Reach.PUBLIC),
        ("127.0.0.1", Reach.PRIVATE),
        ("127.255.255.254", Reach.PRIVATE),
        ("10.1.2.3", Reach.PRIVATE),
        ("172.31.255.1", Reach.PRIVATE),
        ("192.168.0.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("::1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("::ffff:127.0.0.1", Reach.PRIVATE),
        ("::ffff:10.0.0.1", Reach.PRIVATE),
        ("64:ff9b::7f00:1", Reach.PRIVATE),
        ("0.0.0.0", Reach.SPECIAL),
        ("0.1.2.3", Reach.SPECIAL),
        ("::", Reach.SPECIAL),
        ("::ffff:0.0.0.0", Reach.SPECIAL),
        ("169.254.169.254", Reach.SPECIAL),
        ("::ffff:169.254.169.254", Reach.SPECIAL),
        ("64:ff9b::a9fe:a9fe", Reach.SPECIAL),
        ("fe80::1", Reach.SPECIAL),
        ("fec0::1", Reach.SPECIAL),
        ("224.0.0.1", Reach.SPECIAL),
        ("ff02::1", Reach.SPECIAL),
        ("240.0.0.1", Reach.SPECIAL),
        ("255.255.255.255", Reach.SPECIAL),
        ("192.0.2.1", Reach.SPECIAL),
        ("198.18.0.1", Reach.SPECIAL),
        ("2001:db8::1", Reach.SPECIAL),
        ("2001::1", Reach.SPECIAL),
        ("2002:7f00:1::", Reach.SPECIAL),
        ("::127.0.0.1", Reach.SPECIAL),
        ("::8.8.8.8", Reach.SPECIAL),
        ("168.63.129.16", Reach.SPECIAL),
        ("::ffff:168.63.129.16", Reach.SPECIAL),
        ("64:ff9b::a83f:8110", Reach.SPECIAL),
        ("100.100.100.200", Reach.SPECIAL),
        ("192.0.0.192", Reach.SPECIAL),
        ("fd00:ec2::254", Reach.SPECIAL),
        ("fd20:ce::254", Reach.SPECIAL),
        ("3fff::1", Reach.SPECIAL),
        ("3fff:fff:ffff::1", Reach.SPECIAL),
        ("192.88.99.1", Reach.SPECIAL),
        ("2002:c058:6301::", Reach.SPECIAL),
        ("2002:5db8:d822::1", Reach.SPECIAL),
        ("64:ff9b:1::7f00:1", Reach.SPECIAL),
        ("64:ff9b:1::5db8:d822", Reach.SPECIAL),
        ("::ffff:0:7f00:1", Reach.SPECIAL),
        ("2001:0:5db8:d822::1", Reach.SPECIAL),
        ("2001:20::1", Reach.SPECIAL),
        ("100::1", Reach.SPECIAL),
        ("5f00::1", Reach.SPECIAL),
        ("4000::1", Reach.SPECIAL),
        ("198.51.100.7", Reach.SPECIAL),
        ("203.0.113.7", Reach.SPECIAL),
        ("198.19.255.255", Reach.SPECIAL),
        ("192.175.48.1", Reach.SPECIAL),
        ("239.255.255.255", Reach.SPECIAL),
        ("100.127.255.255", Reach.PRIVATE),
        ("64:ff9b::a01:203", Reach.PRIVATE),
    ],
)
def test_who_lies_behind_an_address(text: str, reach: Reach) -> None:
    assert reach_of(ip_address(text)) is reach


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "::1",
        "::ffff:127.0.0.1",
        "localhost",
    ],
)
def test_loopback_is_seen_however_it_is_written(host: str) -> None:
    found = resolve(host, 80)
    assert {reach_of(address) for address in found} == {Reach.PRIVATE}
    with pytest.raises(RefusedError, match="allow_private"):
        check(host, found, private=False, encrypted=True)
    check(host, found, private=True, encrypted=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "::", "169.254.169.254", "224.0.0.1", "fe80::1"])
@pytest.mark.parametrize("private", [True, False])
def test_where_no_receiver_can_be_nothing_is_sent(host: str, private: bool) -> None:
    with pytest.raises(RefusedError, match="no receiver"):
        check(host, resolve(host, 80), private=private, encrypted=True)


def test_one_bad_address_among_good_ones_is_enough_to_refuse() -> None:
    found: list[Address] = [ip_address("93.184.216.34"), ip_address("10.0.0.1")]
    with pytest.raises(RefusedError, match=r"10\.0\.0\.1"):
        check("both.example", found, private=False, encrypted=True)


@pytest.mark.parametrize("private", [True, False])
def test_plain_http_leaves_no_private_network(private: bool) -> None:
    with pytest.raises(RefusedError, match="must be https"):
        check("h", [ip_address("93.184.216.34")], private=private, encrypted=False)


def test_a_name_without_address_is_an_error() -> None:
    with pytest.raises(OSError, match=r"not known|resolution"):
        resolve("nowhere.invalid", 80)


# --- requests --------------------------------------------------------------------------------


class Receiver(BaseHTTPRequestHandler):
    """Answers with the next of ``answers``, 204 after the last; keeps what it was sent."""

    answers: ClassVar[list[int]] = []
    received: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []
    pause: ClassVar[threading.Event] = threading.Event()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.pause.wait(10)
        self.send_response(self.answers.pop(0) if self.answers else 204)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A receiver on a port of its own."""
    Receiver.answers[:], Receiver.received[:] = [], []
    Receiver.pause.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that turn away
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        Receiver.pause.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture
def port() -> Iterator[int]:
    with serving() as found:
        yield found


def endpoint(url: str, **values: Any) -> Endpoint:
    usual = {"url": url, "secret": SECRET, "allow_private": True, "timeout_s": 5}
    return Endpoint.model_validate({**usual, **values})


def leads_to(*texts: str) -> Callable[[str, int], list[Address]]:
    return lambda _host, _port: [ip_address(text) for text in texts]


def test_an_event_arrives_as_it_is_signed(port: int) -> None:
    url = f"http://127.0.0.1:{port}/hooks/a%20b?x=1"
    assert post(endpoint(url), "e1", b'{"a": 1}') == 204
    ((path, headers, body),) = Receiver.received
    assert (path, body) == ("/hooks/a%20b?x=1", b'{"a": 1}')
    assert verify(body, headers, SECRET) == "e1"
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"127.0.0.1:{port}"


@pytest.mark.parametrize("status", [300, 302, 307, 400, 401, 404, 408, 422, 429, 500, 503])
def test_every_other_answer_may_be_another_one_later(port: int, status: int) -> None:
    Receiver.answers.append(status)
    with pytest.raises(DeliveryError, match=f"answered {status}"):
        post(endpoint(f"http://127.0.0.1:{port}/"), "e1", b"{}")
    assert len(Receiver.received) == 1, "a redirection was followed"


def test_a_receiver_that_wants_no_more_is_left_alone(port: int) -> None:
    Receiver.answers.append(410)
    with pytest.raises(RefusedError, match="410"):
        post(endpoint(f"http://127.0.0.1:{port}/"), "e1", b"{}")


def test_a_receiver_that_takes_its_time_is_not_waited_for(port: int) -> None:
    Receiver.pause.clear()
    with pytest.raises(DeliveryError, match=r"within 0\.2 s"):
        post(endpoint(f"http://127.0.0.1:{port}/", timeout_s=0.2), "e1", b"{}")


def test_a_receiver_that_is_away_may_come_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DeliveryError, match="cannot be reached"):
        post(endpoint(f"http://127.0.0.1:{port}/token"), "e1", b"{}")


def test_a_name_that_leads_nowhere_may_lead_somewhere_later() -> None:
    with pytest.raises(DeliveryError, match=r"nowhere\.invalid cannot be reached"):
        post(endpoint("http://nowhere.invalid/"), "e1", b"{}")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
def test_nothing_is_sent_to_a_private_address_that_is_not_allowed(port: int, host: str) -> None:
    with pytest.raises(RefusedError, match="private"):
        post(endpoint(f"https://{host}:{port}/", allow_private=False), "e1", b"{}")
    assert Receiver.received == []


@pytest.mark.parametrize(
    "host", ["①②⑦.⓪.⓪.①", "ⓛocalhost", "\N{FULLWIDTH DIGIT ONE}27.0.0.1", "0177.0.0.1", "x" * 64]
)
def test_a_host_that_some_read_as_another_is_refused(port: int, host: str) -> None:
    with pytest.raises(RefusedError, match="plain letters"):
        post(endpoint(f"http://{host}:{port}/token"), "e1", b"{}")
    assert Receiver.received == []


@pytest.mark.parametrize("host", ["127。0。0。1", "[fe80::1%25lo]", "[::ffff:7f00:1]", "0x7f.1"])
def test_a_host_that_is_written_oddly_is_judged_by_where_it_leads(port: int, host: str) -> None:
    with pytest.raises((RefusedError, DeliveryError)) as caught:
        post(endpoint(f"https://{host}:{port}/", allow_private=False), "e1", b"{}")
    assert Receiver.received == [], caught.value


def test_a_name_is_looked_up_once_and_led_nowhere_else(port: int) -> None:
    asked = []

    def rebinding(host: str, _port: int) -> list[Address]:
        asked.append(host)
        return [ip_address("127.0.0.1" if len(asked) == 1 else "169.254.169.254")]

    assert post(endpoint(f"http://receiver.test:{port}/"), "e1", b"{}", resolve=rebinding) == 204
    assert asked == ["receiver.test"]
    assert Receiver.received[0][1]["host"] == f"receiver.test:{port}"


def test_of_several_addresses_the_first_that_takes_a_connection_is_used(port: int) -> None:
    found = leads_to("127.0.0.2", "::1", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)):
        assert post(endpoint(f"http://r.test:{port}/"), "e1", b"{}", resolve=found) == 204


def test_a_proxy_of_the_environment_is_not_used(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert post(endpoint(f"http://127.0.0.1:{port}/"), "e1", b"{}") == 204


def test_no_error_shows_the_path_which_may_hold_a_token(port: int) -> None:
    Receiver.answers.append(500)
    with pytest.raises(DeliveryError) as caught:
        post(endpoint(f"http://127.0.0.1:{port}/token?token"), "e1", b"{}")
    assert "token" not in str(caught.value)
    assert caught.value.__cause__ is None


# --- encryption ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for ``receiver.test``, with its key, that has signed itself."""
    file = tmp_path_factory.mktemp("tls") / "receiver.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    names = ["-subj", "/CN=receiver.test", "-addext", "subjectAltName=DNS:receiver.test"]
    places = ["-keyout", str(file), "-out", str(file.with_suffix(".crt"))]
    subprocess.run([*command.split(), *names, *places], check=True, capture_output=True)
    return file


@pytest.fixture
def tls_port(certificate: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.with_suffix(".crt"), certificate)
    posting._trust.cache_clear()
    with serving(context) as found:
        yield found
    posting._trust.cache_clear()


def test_a_certificate_must_be_the_names_and_of_somebody_known(
    tls_port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = leads_to("127.0.0.1")
    url = f"https://receiver.test:{tls_port}/"
    with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
        post(endpoint(url), "e1", b"{}", resolve=here)
    posting._trust.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    assert post(endpoint(url), "e1", b"{}", resolve=here) == 204
    with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
        post(endpoint(url.replace("receiver", "other")), "e1", b"{}", resolve=here)
    assert len(Receiver.received) == 1


# --- the function ----------------------------------------------------------------------------


def settings_of(url: str) -> dict[str, Any]:
    """The table of a webhook as an instance that delivers is handed it."""
    webhook = {"url": url, "secret": SECRET, "allow_private": True}
    settings = Settings.model_validate({"project_dir": "/", "webhooks": {"ops": webhook}})
    table = settings.table_of("webhooks")
    assert table is not None
    return cast(dict[str, Any], table.values["ops"])


@pytest.fixture
def configured() -> Iterator[None]:
    """Whatever a test sets up, no later one has."""
    yield
    skipper_webhooks.configured.clear()


@pytest.mark.usefixtures("configured")
def test_the_function_sends_with_the_settings_that_its_instance_was_given(port: int) -> None:
    from skipper_webhooks.webhooks import _deliver

    table = settings_of(f"http://127.0.0.1:{port}/")
    skipper_webhooks.skipper_settings(source="other", settings={"ops": table})
    with pytest.raises(RefusedError, match=r"webhooks\.ops"):
        _deliver(webhook="ops", id="e1", event="{}")
    skipper_webhooks.skipper_settings(source="webhooks", settings={"ops": table})
    event = json.dumps({"ü": 1}, ensure_ascii=False)
    assert _deliver(webhook="ops", id="e1", event=event) == {"status": 204}
    assert Receiver.received[0][2] == event.encode()


def test_the_function_is_the_one_that_the_runtime_makes_tasks_for() -> None:
    from skipper_webhooks.webhooks import ATTEMPTS, _deliver

    assert (_deliver.name, ATTEMPTS) == (webhooks.DELIVER, webhooks.ATTEMPTS)
    assert webhooks.SOURCE == skipper_webhooks.SOURCE


def test_names_are_found_in_the_modules_that_the_documents_name() -> None:
    assert {"verify", "SignatureError"} <= set(skipper_webhooks.__all__)
    assert addresses.resolve is resolve
