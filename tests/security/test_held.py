"""What held when it was attacked, so that it goes on holding."""

from __future__ import annotations

from tests.acceptance.tree import Tree
from tests.security.conftest import Connect


def test_a_call_by_hand_is_answered(attacked: Tree, connect: Connect) -> None:
    answer = connect(attacked).request("POST", "/v1/functions/bodies.add/invoke", body=b'{"x": 1}')
    assert (answer.status, answer.body) == (200, b"11")
