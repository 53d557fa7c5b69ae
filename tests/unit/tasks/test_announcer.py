from collections.abc import Sequence

from skipper.tasks.announcer import Announcer


class Lines:
    """What went to hosts and to the broker."""

    def __init__(self) -> None:
        self.nudged: list[tuple[str, str]] = []
        self.published: list[tuple[str, list[str]]] = []

    def nudge(self, pool: str, task_id: str) -> None:
        self.nudged.append((pool, task_id))

    def publish(self, pool: str, ids: Sequence[str]) -> None:
        self.published.append((pool, list(ids)))


def test_each_pool_has_one_nudge_and_all_of_its_ids() -> None:
    lines = Lines()
    announcer = Announcer(lines.nudge, lines.publish)
    announcer.announce([("a", "cpu"), ("b", "gpu"), ("c", "cpu")])
    assert lines.nudged == [("cpu", "a"), ("gpu", "b")]
    assert lines.published == [("cpu", ["a", "c"]), ("gpu", ["b"])]


def test_nothing_is_made_of_nothing() -> None:
    lines = Lines()
    Announcer(lines.nudge, lines.publish).announce([])
    assert (lines.nudged, lines.published) == ([], [])


def test_who_has_no_broker_nudges() -> None:
    lines = Lines()
    Announcer(lines.nudge, None).announce([("a", "cpu")])
    assert lines.nudged == [("cpu", "a")]
