"""Room for the calls or the tasks of a pool to run. Pure."""

from __future__ import annotations

from typing import NamedTuple

from skipper import machine
from skipper.settings.pools import PoolSettings


class Slots:
    """``capacity`` slots of one lane, each for one instance that runs something."""

    __slots__ = ("capacity", "free")

    def __init__(self, capacity: int) -> None:
        self.capacity = self.free = capacity
        """``free`` is negative where a slot that was lent is in use twice."""

    @property
    def busy(self) -> int:
        """Slots in use: of those that are taken, the ones that are not lent."""
        return self.capacity - self.free

    def take(self) -> None:
        self.free -= 1

    def leave(self) -> None:
        self.free += 1

    def lend(self) -> None:
        """Who has a slot waits for others: one of those may have it meanwhile."""
        self.free += 1

    def take_back(self) -> None:
        """Who has lent a slot goes on, even if that is one more than there are slots."""
        self.free -= 1


class Capacity(NamedTuple):
    """How much of a pool runs at once."""

    cores: int
    direct: int
    """Instances that run direct calls."""
    tasks: int

    @classmethod
    def of(cls, settings: PoolSettings, cores: int | None = None) -> Capacity:
        """As the settings say or else as there are cores that may be used."""
        cores = cores or machine.here().cores
        return cls(cores, settings.slots or 2 * cores, settings.task_slots or cores)

    @property
    def direct_threads(self) -> int:
        """The share of the cores of one that runs direct calls, while as many run as may."""
        return self.cores // min(self.direct, self.cores)
