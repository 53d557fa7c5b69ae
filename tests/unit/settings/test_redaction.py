"""Secrets are taken out of texts that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.settings.masking import secrets_of
from skipper.settings.model import Settings
from skipper.settings.redaction import Redactor, long_texts
from skipper.settings.urls import SECRET_MASK

HOOK = "whsec_c2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1l"


def settings(**sections: object) -> Settings:
    return Settings.model_validate({"project_dir": Path("/p")} | sections)


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({"gateway": {"keys": ["0123456789abcdef"]}}, "key {0123456789abcdef} is not known"),
        ({"broker": {"url": "amqp://u:pass%2Fword@h"}}, "login {pass/word} or {pass%2Fword}"),
        ({"database": {"url": "postgresql://u@h/d?sslpassword=s3same"}}, "with '{s3same}'"),
        ({"storage": {"url": "s3://K:sesame%3D%3D@b"}}, "PUT {sesame==}, {sesame%3D%3D}"),
        (
            {"webhooks": {"ops": {"url": "https://h/hook/abcdefgh?x=1", "secret": HOOK}}},
            f"POST https://h{{/hook/abcdefgh?x=1}} with {{{HOOK}}}",
        ),
        (
            {"webhooks": {"ops": {"url": "https://h/a/abcdefghijklmnopq", "secret": HOOK}}},
            "GET /{abcdefghijklmnopq}",
        ),
        ({"plugins": {"vault": {"a": ["0123456789abcdef"]}}}, "KeyError: '{0123456789abcdef}'"),
        ({"plugins": {"tabular": {"folder": "data", "rows": 1000}}}, "1000 rows in data"),
        ({"broker": {"url": "redis://:skipper@h"}}, "skipper is no secret"),
        ({}, "nothing is"),
    ],
)
def test_each_secret_of_the_settings_is_taken_out(sections: dict[str, object], text: str) -> None:
    redact = Redactor(secrets_of(settings(**sections)))
    plain = text.replace("{", "").replace("}", "")
    parts = text.split("{")
    masked = parts[0] + "".join(SECRET_MASK + part.partition("}")[2] for part in parts[1:])
    assert redact(plain) == masked


def test_data_are_searched_to_the_ground_and_stay_data() -> None:
    redact = Redactor(["0123456789"])
    data = {"a": ["x 0123456789", ("0123456789", 1)], "b": None, "c": 0.5}
    found = {"a": [f"x {SECRET_MASK}", [SECRET_MASK, 1]], "b": None, "c": 0.5}
    assert redact.of_data(data) == found
    assert Redactor([]).of_data(data) is data


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=8), st.text("ab "))
def test_it_is_found_as_it_is_quoted_in_urls_and_in_json(secret: str, around: str) -> None:
    redact = Redactor([secret])
    for form in (secret, quote(secret), quote(secret, safe=""), json.dumps(secret)):
        assert form.strip('"') not in redact(f"{around}{form}{around}") or form in SECRET_MASK


def test_a_longer_secret_goes_before_one_that_is_a_part_of_it() -> None:
    assert Redactor(["sesame12", "sesame123456"])("sesame123456") == SECRET_MASK


def test_what_is_short_or_no_text_may_be_a_word() -> None:
    assert list(long_texts({"a": "data", "b": [1, None, True, "x" * 16], "c": 3})) == ["x" * 16]
