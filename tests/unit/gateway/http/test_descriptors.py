"""Connections get what the system has of descriptors, and no more."""

from __future__ import annotations

import resource

import pytest

from skipper.gateway.http.descriptors import RESERVED, bound

INFINITY = resource.RLIM_INFINITY


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process's limit, soft and hard, which a test sets."""
    now = [1024, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(now))

    def set_(_: int, limits: tuple[int, int]) -> None:
        now[:] = limits

    monkeypatch.setattr(resource, "setrlimit", set_)
    return now


@pytest.mark.parametrize(
    ("before", "wanted", "got", "raised"),
    [
        ((1024, 1 << 20), 4096, 4096, 4096 + RESERVED),
        ((1024, INFINITY), 4096, 4096, 4096 + RESERVED),
        ((1024, 2048), 4096, 2048 - RESERVED, 2048),
        ((1024, 1024), 4096, 1024 - RESERVED, 1024),
        ((20_000, 20_000), 4096, 4096, 20_000),
        ((INFINITY, INFINITY), 4096, 4096, INFINITY),
        ((64, 64), 4096, 1, 64),
        ((1024, 1 << 20), 10, 10, 1024),
    ],
)
def test_the_limit_is_raised_as_far_as_it_is_needed(
    limit: list[int], before: tuple[int, int], wanted: int, got: int, raised: int
) -> None:
    limit[:] = before
    assert bound(wanted) == got
    assert limit == [raised, before[1]]
