import pytest

from skipper.gateway import request_ids


@pytest.mark.parametrize("given", ["a", "b-1.2:3_4", "x" * 128])
def test_the_callers_own_id_is_taken(given: str) -> None:
    assert request_ids.accepted(given.encode()) == given


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "é", "a\tb"])
def test_what_is_no_id_is_not(given: str) -> None:
    assert request_ids.accepted(given.encode()) == ""


def test_no_two_new_ids_are_the_same() -> None:
    assert len({request_ids.new_id() for _ in range(1000)}) == 1000
