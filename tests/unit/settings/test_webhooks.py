"""Webhooks: what may be set, and which ends they are notified of."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from skipper.settings.webhooks import DELIVER, Webhook, audience, interest_in
from skipper.task import TERMINAL, State

SECRET = "whsec_" + base64.b64encode(bytes(24)).decode()


def webhook(**values: Any) -> Webhook:
    given = {"url": "https://ops.example.com/hooks", "secret": SECRET} | values
    return Webhook.model_validate(given)


def test_a_webhook_hears_of_every_end_of_every_function_unless_it_says_otherwise() -> None:
    assert all(webhook().wants("boston.train", state) for state in TERMINAL)


@pytest.mark.parametrize(
    ("events", "functions", "function", "state", "wants"),
    [
        (["failed"], ["*"], "boston.train", "failed", True),
        (["failed"], ["*"], "boston.train", "succeeded", False),
        (["failed", "crashed"], ["boston.*"], "boston.train", "crashed", True),
        (["failed"], ["boston.*"], "bostonian.train", "failed", False),
        (["failed"], ["boston.*", "digits.train"], "digits.train", "failed", True),
        (["failed"], ["boston.t?ain"], "boston.train", "failed", True),
        (["failed"], ["Boston.*"], "boston.train", "failed", False),
    ],
)
def test_it_hears_of_what_it_asked_for(
    events: list[str], functions: list[str], function: str, state: str, wants: bool
) -> None:
    assert webhook(events=events, functions=functions).wants(function, state) is wants


def test_everybody_who_wants_to_hear_of_an_end_is_in_its_audience() -> None:
    known = {"a": webhook(), "b": webhook(events=["failed"]), "c": webhook(functions=["x.*"])}
    assert audience(known, "f.f", State.SUCCEEDED) == ["a"]
    assert audience(known, "f.f", State.FAILED) == ["a", "b"]
    assert audience(known, "x.y", State.FAILED) == ["a", "b", "c"]


@pytest.mark.parametrize("state", TERMINAL)
def test_nobody_hears_how_a_delivery_has_ended(state: State) -> None:
    assert audience({"a": webhook()}, DELIVER, state) == []


def test_without_webhooks_nobody_asks_who_is_interested() -> None:
    assert interest_in({}) is None
    interest = interest_in({"a": webhook(events=["failed"])})
    assert interest is not None
    assert (interest("f.f", "failed"), interest("f.f", "succeeded")) == (True, False)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"url": "ftp://h/x"}, "https://"),
        ({"url": "ops.example.com/x"}, "https://"),
        ({"url": "https:///x"}, "https://"),
        ({"url": "https://h:0/"}, "https://"),
        ({"url": "https://[::1/"}, "https://"),
        ({"url": "https://user:pw@h/"}, "without user, password"),
        ({"url": "https://h/#part"}, "fragment"),
        ({"url": "https://①②⑦.⓪.⓪.①/x"}, "plain letters"),
        ({"url": "https://ⓛocalhost/x"}, "plain letters"),
        ({"secret": ""}, "whsec_"),
        ({"secret": "opensesame"}, "whsec_"),
        ({"secret": "whsec_c2hvcnQ="}, "24 to 64 bytes"),
        ({"secret": "whsec_" + base64.b64encode(bytes(65)).decode()}, "24 to 64 bytes"),
        ({"secret": "whsec_ünïcode"}, "24 to 64 bytes"),
        ({"events": ["running"]}, "running is no end of a task; ends are succeeded"),
        ({"events": ["done"]}, "'succeeded'"),
        ({"events": []}, "at least 1"),
        ({"functions": []}, "at least 1"),
        ({"timeout_s": 0}, "greater than"),
        ({"retries": 3}, "Extra inputs"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        webhook(**values)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://hooks.example.com/services/T0/B0/token", "https://hooks.example.com"),
        ("http://127.0.0.1:9/?token=x", "http://127.0.0.1:9"),
        ("https://[::1]:8/a", "https://[::1]:8"),
    ],
)
def test_others_are_shown_where_it_leads_and_no_more(url: str, origin: str) -> None:
    assert webhook(url=url).url.origin == origin
    assert webhook(url=url).is_encrypted is url.startswith("https")


def test_it_keeps_its_secrets_to_itself() -> None:
    shown = repr(webhook(url="https://h/token"))
    assert "token" not in shown
    assert SECRET not in shown
