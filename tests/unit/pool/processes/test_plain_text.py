"""Lines as they look at the end: https://github.com/determined-ai/determined/issues/3945"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.pool.processes.plain_text import last_state, plain

MARK = b"\x1e0123"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("tabs\tstay", "tabs\tstay"),
        ("ends of Windows\r", "ends of Windows"),
        # tqdm, and tqdm(leave=False), which wipes its line
        ("\r  0%|          | 0/2\r100%|██████████| 2/2 [00:01]", "100%|██████████| 2/2 [00:01]"),
        ("\r100%|██████████| 2/2\r                    \r", "100%|██████████| 2/2"),
        # Keras
        (
            "\b\b\b\r\x1b[1m2/2\x1b[0m \x1b[32m━━━━\x1b[0m \x1b[1m0s\x1b[0m loss: 0.1",
            "2/2 ━━━━ 0s loss: 0.1",
        ),
        # pip and rich
        (
            "\x1b[?25l   \x1b[32m1.0/1.0 MB\x1b[0m\r\x1b[2K   \x1b[36m━━━━\x1b[0m done\x1b[?25h",
            "   ━━━━ done",
        ),
        ("42%\r\x1b[K", "42%"),
        ("12%\b\b\b34%", "34%"),
        ("abc\bX\b\b\b\b\bY", "YbX"),
        ("\x1b]0;title\x07text \x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\", "text link"),
        ("\x1b(Bcharset \x1bMup \x1b[3Aup \x1b[10;2Hthere", "charset up up there"),
        ("one\ntwo \x1b[31mred\x1b[0m\n50%\r60%", "one\ntwo red\n60%"),
        ("cut \x1b[3", "cut "),
    ],
)
def test_a_line_is_what_a_terminal_shows_at_its_end(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text(st.sampled_from("ab\r\b \x1b[2K;m]\x07\t")))
def test_no_code_is_left_and_it_is_plain_for_good(text: str) -> None:
    shown = plain(text)
    assert not set(shown) & set("\r\b\x1b")
    assert plain(shown) == shown


@given(st.lists(st.text(st.sampled_from("ab\r é━ "), max_size=8)))
def test_what_is_forgotten_of_a_line_changes_nothing_at_its_end(pieces: list[str]) -> None:
    kept = b""
    for piece in pieces:
        kept = last_state(kept + piece.encode(), MARK)
    assert plain(kept.decode()) == plain("".join(pieces))


def test_what_follows_the_mark_stays() -> None:
    said = MARK + b'@["", "r1"]'
    assert last_state(b"1%\r2%" + said, MARK) == b"2%" + said
    assert last_state(said, MARK) == said
