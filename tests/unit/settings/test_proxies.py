"""Settings about what stands before the gateway."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from skipper.settings.proxies import PathPrefix, TrustedProxy

PROXY: TypeAdapter[str] = TypeAdapter(TrustedProxy)
PATH: TypeAdapter[str] = TypeAdapter(PathPrefix)


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "10.1.2.3/32", "unix"]
)
def test_a_proxy_is_an_address_a_network_or_the_socket(text: str) -> None:
    assert PROXY.validate_python(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "everybody"),
        ("::/0", "everybody"),
        ("*", "write an address"),
        ("", "write an address"),
        ("proxy.example.com", "write an address"),
        ("10.0.0.1:80", "write an address"),
        ("10.0.0.0/33", "write an address"),
        ("UNIX", "write an address"),
    ],
)
def test_what_is_no_proxy_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PROXY.validate_python(text)


@pytest.mark.parametrize("text", ["", "/ml", "/teams/ml", "/~ada/v1.2_x-y", "/v1x"])
def test_a_prefix_is_a_plain_path(text: str) -> None:
    assert PATH.validate_python(text) == text


WRONG = (
    "/",
    "ml",
    "/ml/",
    "//ml",
    "/a//b",
    "/a b",
    "/a?b",
    "/a#b",
    "/%2e",
    "/..",
    "/a/../b",
    "/a/.",
)
LONG = ("/a" * 9, "/" + "a" * 101)
OWN = ("/v1", "/docs/x", "/livez", "/metrics/a")
HOSTILE = ("https://api.example.com/ml", '/"><script>', "/a\n")


@pytest.mark.parametrize("text", [*WRONG, *LONG, *OWN, *HOSTILE])
def test_what_would_mean_more_than_a_path_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        PATH.validate_python(text)
