"""What of a URL is shown, and which URLs everybody reads alike."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.errors import SettingsError
from skipper.settings.loading import load
from skipper.settings.urls import SECRET_MASK, check_readable, masked_url, secrets_in

M = SECRET_MASK


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://skipper@h/v", "amqp://skipper@h/v"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("rediss://:pw@h/0?ssl_cert_reqs=none", f"rediss://:{M}@h/0?ssl_cert_reqs=none"),
        ("https://T0KEN@h/x", f"https://{M}@h/x"),
        ("github://org:T0KEN@/x", f"github://org:{M}@/x"),
        ("postgresql://u@h/d?sslmode=require&x=1", f"postgresql://u@h/d?sslmode=require&x={M}"),
        ("s3://b/x?sig=abc%2F;token=d", f"s3://b/x?sig={M};token={M}"),
        ("s3://b/x?AccountKey=abc==&region=eu", f"s3://b/x?AccountKey={M}&region=eu"),
        ("s3://b/x?X-Amz-Signature=abc", f"s3://b/x?X-Amz-Signature={M}"),
        ("postgresql://u@h/d?SSLPASSWORD=abc", f"postgresql://u@h/d?SSLPASSWORD={M}"),
        ("s3://b/x?abc", f"s3://b/x?{M}"),
        ("s3://b/x#abc", f"s3://b/x#{M}"),
        ("simplecache::s3://K:S@b/x", f"simplecache::s3://K:{M}@b/x"),
        ("DefaultEndpointsProtocol=https;AccountKey=abc", M),
        ("host=h password=abc", M),
        ("user:abc@host/d", M),
        ("/srv/models", "/srv/models"),
        ("sqlite", "sqlite"),
    ],
)
def test_what_may_be_secret_is_masked(url: str, shown: str) -> None:
    assert masked_url(url) == shown


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("amqp://u:a%2Fb@h/v", {"a%2Fb", "a/b"}),
        ("amqp://u:a/b@h", {"a/b", "a", "b"}),
        ("https://T0KEN@h/x?sig=a%3D&port=1", {"T0KEN", "a%3D", "a="}),
        ("postgresql://skipper@h/d?sslmode=require", set()),
        ("host=h password=abc", {"host=h password=abc"}),
        ("s3://b/x#abc", {"abc"}),
    ],
)
def test_what_is_masked_is_known_as_secret_as_it_is_written_and_meant(
    url: str, found: set[str]
) -> None:
    assert set(secrets_in(url)) == found


URLS = ("amqp://u:{}@h:5672/v", "redis://:{}@h/0", "postgresql://u:{}@h/d?sslmode=require")


@pytest.mark.parametrize("form", URLS)
@pytest.mark.parametrize("password", ["", "plain", "a!$&'()*+,;=b", "a:b", "a%2Fb", "~-._"])
def test_a_password_that_all_read_alike_is_taken(form: str, password: str) -> None:
    check_readable(form.format(password))


@pytest.mark.parametrize("form", URLS)
@pytest.mark.parametrize(
    "password",
    ["a#b", "12#b", "a/b", "12/b", "a?b", "12?b", "a@b", "a%b", "a b", "a\nb", "[a", "℀"],
)
def test_one_that_is_not_is_refused_without_being_shown(form: str, password: str) -> None:
    with pytest.raises(ValueError, match="%2F") as caught:
        check_readable(form.format(f"SESAME{password}SESAME"))
    assert "SESAME" not in str(caught.value)
    check_readable(form.format(quote(password, safe="")))


@pytest.mark.parametrize(
    "url",
    ["redis+socket:///run/a@b/v.sock", "redis+socket://:pw@/run/v.sock", "amqp://[::1]:5672//"],
)
def test_other_urls_are_taken(url: str) -> None:
    check_readable(url)


@given(st.text("aS0:/@?#%[]&=; \n℀é", min_size=1, max_size=12))
def test_whatever_is_taken_has_one_reading(noise: str) -> None:
    url = f"amqp://user:x{noise}SESAME@host:5672/v"
    assert "SESAME" not in masked_url(url)
    with contextlib.suppress(ValueError):
        check_readable(url)
        assert re.fullmatch(r"amqp://user:x[^/?#@\s]*SESAME@host:5672/v", url)


@pytest.mark.parametrize("name", ["broker", "database"])
def test_a_wrong_password_is_told_where_it_stands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = {"broker": "amqp", "database": "postgresql"}[name]
    monkeypatch.setenv(f"SKIPPER_{name.upper()}_URL", f"{scheme}://u:SESAME#SESAME@h/x")
    with pytest.raises(SettingsError, match=rf"\$SKIPPER_{name.upper()}_URL.*%23") as caught:
        load(tmp_path)
    assert "SESAME" not in str(caught.value)
