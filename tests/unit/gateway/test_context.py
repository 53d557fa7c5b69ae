from typing import Any

import pytest

from skipper.gateway.context import sse


@pytest.mark.parametrize(
    ("data", "id_", "text"),
    [
        ({"done": 1}, None, b'event: progress\ndata: {"done": 1}\n\n'),
        (b"[1,2]", 7, b"id: 7\nevent: progress\ndata: [1,2]\n\n"),
        ("two\nlines", 0, b'id: 0\nevent: progress\ndata: "two\\nlines"\n\n'),
    ],
)
def test_an_event_is_one_block_of_lines(data: Any, id_: int | None, text: bytes) -> None:
    assert sse("progress", data, id_) == text
