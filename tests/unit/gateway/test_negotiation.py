"""Accept decides by quality, then by exactness; who accepts anything gets the usual type."""

import pytest

from skipper.gateway.negotiation import accepts, chosen

GIVES = ("image/png", "image/jpeg", "application/json")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("IMAGE/JPEG", "image/jpeg"),
        ("application/json, image/*;q=0.5", "application/json"),
        ("image/png;q=0.1, image/jpeg;q=0.2", "image/jpeg"),
        ("image/*, image/png;q=0", "image/jpeg"),
        ("*/*;q=0.1, application/json;q=0.2", "application/json"),
        ("text/html, */*;q=0.01", "image/png"),
        ("text/html", None),
        ("image/png;q=0", None),
        ("*/*;q=0", None),
        ("image/png;q=2", "image/png"),
        (",,;q=1,image/jpeg", "image/jpeg"),
        ("*", "image/png"),
        ("nonsense", None),
        ("image/jpeg;level=1;q=0.5", "image/jpeg"),
    ],
)
def test_what_is_wanted_most_is_answered(accept: str, wanted: str | None) -> None:
    assert chosen(accept, GIVES) == wanted


def test_a_type_that_is_not_known_yet_fits_whatever_is_wanted_at_all() -> None:
    assert chosen("audio/wav", ["*/*"]) == "*/*"
    assert chosen("*/*;q=0", ["*/*"]) is None
    assert accepts("audio/*", "audio/wav")
    assert not accepts("image/*", "audio/wav")


def test_a_thousand_ranges_are_not_all_looked_at() -> None:
    assert chosen("a/b," * 100 + "image/png", GIVES) is None
