"""Which versions go, and which never do."""

from hypothesis import given
from hypothesis import strategies as st

from skipper.ledger.records import Deployment, Keeping, ShelvedVersion
from skipper.ledger.shelf import holders, superfluous

SHELVED = [ShelvedVersion(number, float(number)) for number in range(6, 0, -1)]
HELD = Deployment(name="m", production=5, previous=4, aliases={"best": 1})


def keeping(versions: int | None = None, since: float | None = None) -> Keeping:
    return Keeping(versions=versions, since=since, why="")


def test_the_newest_the_young_and_the_held_stay() -> None:
    held = holders(HELD, [], [])
    assert superfluous(SHELVED, held, keeping(versions=2)) == [3, 2]
    assert superfluous(SHELVED, held, keeping(since=3.0)) == [2]
    assert superfluous(SHELVED, held, keeping(versions=2, since=3.0)) == [2]
    assert superfluous(SHELVED, {}, keeping(since=9.0)) == [5, 4, 3, 2, 1], "the newest stays"
    assert superfluous([], {}, keeping(versions=1)) == []


def test_who_holds_a_version_is_told_in_a_word() -> None:
    record = Deployment(name="m", production=5, previous=4, candidate=6, shadow=3)
    held = holders(record, ["m@2", "other@1", "m@x"], [1, 2])
    assert held == {
        1: "a function",
        2: "a running task",
        3: "shadow",
        4: "previous",
        5: "production",
        6: "candidate",
    }


VERSION = st.integers(1, 30)
SOME = st.none() | VERSION


@given(
    st.builds(
        Deployment,
        name=st.just("m"),
        production=SOME,
        previous=SOME,
        candidate=SOME,
        shadow=SOME,
        aliases=st.dictionaries(st.sampled_from("abc"), VERSION),
    ),
    st.lists(VERSION.map(lambda number: f"m@{number}")),
    st.sets(VERSION),
    st.builds(Keeping, versions=SOME, since=st.none() | st.floats(0, 40), why=st.just("")),
)
def test_what_anybody_holds_never_goes(
    record: Deployment, running: list[str], pinned: set[int], kept: Keeping
) -> None:
    shelved = [ShelvedVersion(number, float(number)) for number in range(30, 0, -1)]
    gone = {*superfluous(shelved, holders(record, running, pinned), kept)}
    assert gone.isdisjoint(record.versions)
    assert gone.isdisjoint(pinned)
    assert gone.isdisjoint(int(text[2:]) for text in running)
    assert 30 not in gone
    assert all(kept.since is None or number < kept.since for number in gone)
    assert all(number <= 30 - (kept.versions or 1) for number in gone)
