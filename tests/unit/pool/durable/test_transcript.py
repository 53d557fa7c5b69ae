from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.pool.durable.transcript import Entry, Transcript
from skipper.pool.processes.output import OVERHEAD, Bounds

LINE = OVERHEAD + 10
"""What a line of ten letters counts."""


class Shop:
    """A tape, and a store that takes what is to be written and cuts out what is to be cut out."""

    def __init__(self, *, head: int = 5, tail: int = 3) -> None:
        bounds = Bounds(head=head * LINE, tail=tail * LINE)
        self.transcript = Transcript("task", 1, is_log=True, bounds=bounds)
        self.rows: dict[int, int] = {}
        self._seq = 0

    def says(self, lines: int = 1) -> None:
        for _ in range(lines):
            self.transcript.add("log", {"text": "x" * 10}, 1.0)

    def writes(self, quota: int = 0) -> None:
        self._store(self.transcript.take(quota * LINE))

    def ends(self) -> None:
        self._store(self.transcript.rest())

    def _store(self, entries: Iterable[Entry]) -> None:
        numbered = []
        for entry in entries:
            self._seq += 1
            self.rows[self._seq] = entry.row.number
            numbered.append((entry, self._seq))
        self.transcript.stored(numbered)
        if (cut := self.transcript.cut()) is not None:
            for seq in range(cut.first_seq, cut.last_seq + 1):
                self.rows.pop(seq, None)

    @property
    def numbers(self) -> list[int]:
        return list(self.rows.values())


def test_what_fits_is_kept_whole() -> None:
    shop = Shop()
    shop.says(5)
    shop.writes()
    assert shop.numbers == [1, 2, 3, 4, 5]
    shop.says(3)
    shop.ends()
    assert shop.numbers == [1, 2, 3, 4, 5, 6, 7, 8]


def test_of_more_the_first_and_the_last_are_kept() -> None:
    shop = Shop()
    shop.says(1000)
    shop.ends()
    assert shop.numbers == [1, 2, 3, 4, 5, 998, 999, 1000]


def test_who_reads_along_sees_what_comes_after_the_head() -> None:
    shop = Shop()
    shop.says(5)
    for _ in range(20):
        shop.says()
        shop.writes(quota=1)
    assert shop.numbers == [1, 2, 3, 4, 5, 23, 24, 25]
    shop.ends()
    assert shop.numbers == [1, 2, 3, 4, 5, 23, 24, 25]


def test_what_was_left_out_on_the_way_counts() -> None:
    shop = Shop()
    shop.says(2)
    shop.transcript.skip(100)
    shop.says(2)
    shop.ends()
    assert shop.numbers == [1, 2, 103, 104]


def test_a_gap_ends_the_head() -> None:
    shop = Shop(head=5, tail=2)
    shop.says(1)
    shop.transcript.skip(1)
    shop.says(4)
    shop.ends()
    assert shop.numbers == [1, 5, 6]


def test_one_line_is_kept_however_long_it_is() -> None:
    transcript = Transcript("task", 1, is_log=True, bounds=Bounds(head=0, tail=10))
    for text in ("a" * 1000, "b" * 1000):
        transcript.add("log", {"text": text}, 1.0)
    (entry,) = transcript.rest()
    assert entry.row.number == 2
    transcript.stored([(entry, 1)])
    assert transcript.cut() is None


def test_a_cut_waits_until_there_is_enough_to_cut() -> None:
    transcript = Transcript("task", 1, is_log=False, bounds=Bounds(head=0, tail=0))
    for number in range(3):
        transcript.add("metric", {}, 1.0)
        transcript.stored([(entry, number) for entry in transcript.rest()])
    assert transcript.cut(slack=1000) is None
    cut = transcript.cut()
    assert cut is not None
    assert (cut.first_seq, cut.last_seq, cut.is_log) == (0, 1, False)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.booleans())))
def test_however_it_comes_the_head_and_the_tail_are_whole(
    steps: list[tuple[int, int, bool]],
) -> None:
    shop, said = Shop(), 0
    for lines, quota, is_written in steps:
        shop.says(lines)
        said += lines
        if is_written:
            shop.writes(quota)
    shop.ends()
    expected = [n for n in range(1, said + 1) if n <= 5 or n > said - 3]
    assert shop.numbers == expected


@pytest.mark.parametrize("is_log", [True, False])
def test_what_has_no_text_counts_too(is_log: bool) -> None:
    transcript = Transcript("task", 1, is_log=is_log, bounds=Bounds(head=10 * OVERHEAD, tail=0))
    for _ in range(1000):
        transcript.add("log" if is_log else "progress", {}, 1.0)
    assert len(transcript.rest()) <= 11
