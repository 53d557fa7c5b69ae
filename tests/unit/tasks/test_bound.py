"""Tasks are told apart by the value of one member of their bodies."""

from __future__ import annotations

from typing import Any

import pytest

from skipper.tasks.bound import key_of
from tests.unit.pool.played import spec_of

SCHEMA = {"properties": {"customer": {"default": "nobody"}, "region": {}}}


def key(body: bytes, **given: Any) -> str | None:
    usual: dict[str, Any] = {
        "concurrency": 1,
        "concurrency_key": "customer",
        "input_schema": SCHEMA,
    }
    return key_of(spec_of(**usual | given), body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"customer": "ann"}', "ann"),
        (b'{"customer": 5}', "5"),
        (b'{"customer": "5"}', "5"),
        (b'{"customer": true}', "true"),
        (b'{"customer": null}', "null"),
        (b'{"customer": {"b": 1, "a": [2]}}', '{"a": [2], "b": 1}'),
        (b'{"region": "eu"}', "nobody"),
        (b"{}", "nobody"),
        (b"", "nobody"),
        (b"no JSON", "null"),
        (b"[1]", "nobody"),
    ],
)
def test_the_key_is_the_members_value_or_its_default(body: bytes, expected: str) -> None:
    assert key(body) == expected


def test_a_function_without_a_key_has_one_gate_and_one_without_a_bound_has_none() -> None:
    assert key(b'{"customer": "ann"}', concurrency_key="") == ""
    assert key(b'{"customer": "ann"}', concurrency=None, concurrency_key="") is None


def test_a_long_key_is_kept_short_and_apart_from_others() -> None:
    long = [key(b'{"customer": "%s"}' % (b"x" * size)) or "" for size in (201, 202)]
    assert [len(each) for each in long] == [64, 64]
    assert long[0] != long[1]
