"""The certificate follows its files."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import pytest

from skipper.gateway.certificate import Renewed
from skipper.tls import pinned
from tests.certificates import Pair, make_pair, needs_openssl
from tests.unit.test_tls import shake_hands

pytestmark = needs_openssl


def is_served(renewed: Renewed, pair: Pair) -> bool:
    """Whether a new connection is shown this certificate."""
    try:
        return bool(shake_hands(pinned(pair.certificate), renewed.context))
    except ssl.SSLCertVerificationError:
        return False


def put(pair: Pair, source: Pair) -> None:
    """Put copies in a pair's place, as renewals do."""
    for file, new in zip(pair, source, strict=True):
        fresh = file.with_suffix(".new")
        fresh.write_bytes(new.read_bytes())
        fresh.replace(file)


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Pair, Pair, Pair]:
    """The pair in place, a copy of it, and the one to come."""
    old = make_pair(tmp_path, "old")
    place = Pair(tmp_path / "cert.pem", tmp_path / "key.pem")
    put(place, old)
    return place, old, make_pair(tmp_path, "new")


def test_a_new_pair_is_taken_up_once_it_has_come_to_rest(pairs: tuple[Pair, Pair, Pair]) -> None:
    place, old, new = pairs
    renewed = Renewed(*place)
    renewed.look()
    assert is_served(renewed, old)
    put(place, new)
    renewed.look()
    assert is_served(renewed, old)
    renewed.look()
    assert is_served(renewed, new)
    assert not is_served(renewed, old)


def test_a_link_that_is_turned_is_a_new_pair(
    tmp_path: Path, pairs: tuple[Pair, Pair, Pair]
) -> None:
    _, old, new = pairs
    links = Pair(tmp_path / "live.pem", tmp_path / "live.key")
    for link, file in zip(links, old, strict=True):
        link.symlink_to(file)
    renewed = Renewed(*links)
    for link, file in zip(links, new, strict=True):
        link.unlink()
        link.symlink_to(file)
    renewed.look()
    renewed.look()
    assert is_served(renewed, new)


@pytest.mark.parametrize("damage", ["other key", "no key", "cut", "no certificate"])
def test_a_broken_pair_is_told_once_and_the_old_one_stays(
    pairs: tuple[Pair, Pair, Pair], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    place, old, new = pairs
    renewed = Renewed(*place)
    if damage == "other key":
        place.key.write_bytes(new.key.read_bytes() + b"\n")
    elif damage == "no key":
        place.key.unlink()
    elif damage == "cut":
        place.certificate.write_text(place.certificate.read_text()[:300])
    else:
        place.certificate.write_text("")
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            renewed.look()
    assert is_served(renewed, old)
    (told,) = caplog.records
    assert told.levelname == "ERROR"
    assert "stays as it was" in told.message

    put(place, new)
    renewed.look()
    renewed.look()
    assert is_served(renewed, new)


def test_a_certificate_whose_key_comes_later_is_waited_for(
    pairs: tuple[Pair, Pair, Pair], caplog: pytest.LogCaptureFixture
) -> None:
    place, _, new = pairs
    renewed = Renewed(*place)
    place.certificate.write_bytes(new.certificate.read_bytes())
    renewed.look()
    place.key.write_bytes(new.key.read_bytes())
    with caplog.at_level(logging.ERROR):
        renewed.look()
        renewed.look()
    assert not caplog.records
    assert is_served(renewed, new)
