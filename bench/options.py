"""What a run of the benchmark is asked to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bench import peers, wrk
from bench.figures import Figures
from bench.systems import Place


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Handed to every section: how much to do, and where its figures go."""

    rounds: int = 3
    seconds: float = 4.0
    scale: float = 1.0
    """Shrinks what counts things (tasks in a ledger, a queue) rather than seconds."""
    rabbitmq: str = "amqp://guest:guest@127.0.0.1:5672//"
    postgres: str = "postgresql://postgres@127.0.0.1:5432/postgres"
    figures: Figures = field(default_factory=Figures)
    notes: list[str] = field(default_factory=list)

    def each_round(self, section: str) -> Iterator[int]:
        """The rounds, told as they begin."""
        for number in range(self.rounds):
            peers.say(f"{section}: round {number + 1} of {self.rounds}")
            yield number

    def measure_load(self, name: str, place: Place, body: str, connections: int) -> None:
        """Load a system: rate, times, processor time of all its processes, its instances."""
        name, before = f"{name}.{connections}", place.cpu_s()
        load = wrk.post(place.url, body, connections=connections, seconds=self.seconds)
        self.figures.add(f"{name}.cpu_us", (place.cpu_s() - before) / load.requests * 1e6)
        self.figures.add(f"{name}.per_s", load.per_s)
        self.figures.add(f"{name}.p50_ms", load.p50_ms)
        self.figures.add(f"{name}.p99_ms", load.p99_ms)
        if place.instances:
            self.figures.add(f"{name}.instances", place.instances())

    def scaled(self, number: int, least: int = 1) -> int:
        return max(least, round(number * self.scale))

    def note(self, text: str) -> None:
        """Say something that belongs to the figures, such as what could not be measured."""
        peers.say(text)
        if text not in self.notes:
            self.notes.append(text)
