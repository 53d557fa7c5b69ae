"""What browsers are told."""

from __future__ import annotations

import base64
import hashlib
import re

from skipper.gateway.browsers import FOR_BROWSERS, docs_page


def test_the_page_runs_its_own_scripts_and_no_others() -> None:
    page = docs_page("houses · Skipper")
    text = bytes(page.body).decode()
    (inline,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    (allowed,) = re.findall(r"script-src ([^;]*)", policy)
    assert allowed == f"'self' 'sha256-{digest}'"
    assert "frame-ancestors 'none'" in policy
    assert policy.startswith("default-src 'none'")


def test_the_page_is_the_same_below_any_prefix() -> None:
    text = bytes(docs_page("x").body).decode()
    found = re.findall(r"(?:src|href)=\"([^\"]*)\"", text)
    assert found
    assert not [address for address in found if address.startswith(("/", "http"))]
    assert 'url: "openapi.json"' in text


def test_the_title_is_no_markup() -> None:
    assert b"<b>" not in bytes(docs_page("<b>").body)


def test_every_answer_tells_browsers_what_not_to_do() -> None:
    told = dict(FOR_BROWSERS)
    assert told[b"x-content-type-options"] == b"nosniff"
    assert told[b"x-frame-options"] == b"DENY"
    assert told[b"referrer-policy"] == b"no-referrer"
    assert b"frame-ancestors 'none'" in told[b"content-security-policy"]
