"""What processes ask and report to each other over links: one frozen record for each message.

A message is its record's JSON. Processes that talk are of one :data:`PROTOCOL`, so both sides know
the same members: one that is missing, unknown or of another type is an error, which names it. So
whoever changes a record here, a frame (:mod:`skipper.wire.frames`) or the head of a call
(:mod:`skipper.wire.calls`) raises the number. :class:`Hello` alone is read whatever it holds.
"""

from __future__ import annotations

import functools
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from skipper.spec import BrokenFile, FunctionSpec

PROTOCOL = 8
"""Which messages this process speaks. Two processes of different numbers do not talk."""


RENEW_S = 2.5
"""How long versions of models may take to be ready before calls wait for them."""


class Record(BaseModel):
    """One message, or a part of one."""

    # Built when it is first used, because most processes use few of them and all have to start.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def to_json(self) -> bytes:
        """What is sent."""
        return self.model_dump_json().encode()

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """The message that was sent. Raises ValueError, in one line, where it is not this one."""
        try:
            return cls.model_validate_json(payload)
        except ValidationError as error:
            raise ValueError(f"{cls.__name__}: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, found["loc"]))
    return f"{where}: {found['msg']}" if where else found["msg"]


# --- who is there ----------------------------------------------------------------------------


class LinkRole(StrEnum):
    """What the process at one end of a link is."""

    GATEWAY = "gateway"
    HOST = "host"
    CONSUMER = "consumer"
    SCHEDULER = "scheduler"


class Hello(Record):
    """The first message of either side.

    That of any other version must be readable: what it holds beside these members is ignored, and
    one without a number is of a version before there were numbers.
    """

    model_config = ConfigDict(extra="ignore")

    role: str = "peer"
    pid: int = 0
    protocol: int = 0


# --- what a host serves ----------------------------------------------------------------------


class FunctionState(StrEnum):
    """What a caller of a function would get."""

    LIVE = "live"
    """The function as its file holds it."""
    STALE = "stale"
    """Its file is broken; it stays as it was."""
    FAILING = "failing"
    """No answer of its own: its last process did not start, and there is no other."""


class ListedFunction(Record):
    """One function that a host serves. Its ``spec`` names the file by its path in the project."""

    spec: FunctionSpec
    state: FunctionState = FunctionState.LIVE
    problem: str = ""
    """Why it is failing."""

    def document(self) -> dict[str, Any]:
        """The function as REST shows it."""
        shown = {"state": self.state.value, "problem": self.problem}
        return self.spec.model_dump(mode="json") | shown


class CatalogueSnapshot(Record):
    """All that one host serves, as of now."""

    pool: str
    host: str
    """Its id."""
    loading: tuple[str, ...]
    """Sources that it still reads; ``*`` where it does not know yet which there are."""
    functions: tuple[ListedFunction, ...]
    broken: tuple[BrokenFile, ...]


# --- what a host is asked --------------------------------------------------------------------

A = TypeVar("A", bound=Record)


class Question(Record, Generic[A]):
    """A question to a host, which answers with an ``A``."""

    def parse_answer(self, payload: bytes) -> A:
        """The answer that was sent. Raises ValueError where it is none to this question."""
        raise NotImplementedError


class DeviceInfo(Record):
    """One GPU of a pool."""

    name: str
    memory_mb: int


class InstanceInfo(Record):
    """One instance of a pool."""

    function: str
    code: str | None
    state: str
    lane: str
    pid: int
    calls: int
    """How many it runs or holds ready."""
    memory_mb: float


class TemplateInfo(Record):
    """What instances are forked from."""

    libraries: tuple[str, ...]
    pid: int
    state: Literal["loading", "ready"]
    forks: bool
    """Whether it can: not where its libraries have started threads."""


class UnfitVersion(Record):
    """A version of a model that is in production and does not load on a host."""

    model: str
    version: int
    reason: str


class PoolState(Record):
    """What a pool has and does."""

    pool: str
    host_id: str
    pid: int
    devices: tuple[DeviceInfo, ...]
    slots: int
    task_slots: int
    task_slots_free: int
    tasks_listed: int
    busy: int
    queued: int
    tasks_running: int
    instances: tuple[InstanceInfo, ...]
    templates: tuple[TemplateInfo, ...]
    unfit: tuple[UnfitVersion, ...]
    consumer: bool
    """Whether its consumer is linked."""
    consumer_problem: str = ""
    """Why it does not talk to the consumer that is there."""

    def document(self) -> dict[str, Any]:
        """The pool as REST shows it."""
        return self.model_dump(mode="json", exclude={"consumer_problem", "unfit"})


class GetPoolState(Question[PoolState]):
    """What do you have, what do you do?"""

    what: Literal["pool"] = "pool"

    def parse_answer(self, payload: bytes) -> PoolState:
        return PoolState.parse(payload)


class CallCount(Record):
    """Direct calls of one function that ended in one way."""

    function: str
    outcome: str
    count: int


class ModelCalls(Record):
    """Direct calls that one version of a model has answered in one function, while it serves."""

    model: str
    version: int
    function: str
    outcomes: dict[str, int]
    duration: HistogramCounts


class AttemptCount(Record):
    """Runs of one function that ended in one way: of its direct calls, or of its tasks."""

    function: str
    lane: str
    outcome: str
    count: int


class HistogramCounts(Record):
    """Observations by bucket; the last one counts those above all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class InstanceCount(Record):
    """Instances of one function that are in one state."""

    function: str
    state: str
    count: int


class OwnSeries(Record):
    """One series that a function counts or observes itself."""

    name: str
    labels: dict[str, str]
    counted: float | HistogramCounts


class OwnMetrics(Record):
    """All those of one function."""

    series: tuple[OwnSeries, ...]
    left_out: int
    """How often it counted or observed what is not shown."""


class MetricsSnapshot(Record):
    """What a host has counted since its start. Histograms are by function, in seconds or items."""

    calls: tuple[CallCount, ...]
    attempts: tuple[AttemptCount, ...]
    call_duration: dict[str, HistogramCounts]
    task_wait: dict[str, HistogramCounts]
    cold_start: dict[str, HistogramCounts]
    batch_size: dict[str, HistogramCounts]
    own: dict[str, OwnMetrics]
    """What functions count themselves."""
    reloads: dict[str, int]
    """Changed files by what became of them."""
    models: tuple[ModelCalls, ...]
    """Of versions that serve now, or may again."""
    queued: int
    """Direct calls that wait now."""
    instances: tuple[InstanceCount, ...]
    unfit: tuple[UnfitVersion, ...]


class GetMetrics(Question[MetricsSnapshot]):
    """What have you counted?"""

    what: Literal["metrics"] = "metrics"

    def parse_answer(self, payload: bytes) -> MetricsSnapshot:
        return MetricsSnapshot.parse(payload)


class ModelsRenewed(Record):
    """From now on no call is given to what served before."""


class RenewModels(Question[ModelsRenewed]):
    """Look which versions of models are to serve, and have calls go to them."""

    what: Literal["models"] = "models"
    limit_s: float = RENEW_S
    """After so long calls wait for those that are not ready."""

    def parse_answer(self, payload: bytes) -> ModelsRenewed:
        return ModelsRenewed.parse(payload)


class CancelAnswer(Record):
    """Whether the task runs at that host: then it is being stopped."""

    known: bool


class CancelTask(Question[CancelAnswer]):
    """Stop a task that you run."""

    what: Literal["cancel"] = "cancel"
    task_id: str

    def parse_answer(self, payload: bytes) -> CancelAnswer:
        return CancelAnswer.parse(payload)


class TriedAgain(Record):
    """The catalogue that went before this answer tells what came of it."""


class TryAgain(Question[TriedAgain]):
    """A caller wants a function whose file does not load: read it again, unless you just have."""

    what: Literal["again"] = "again"
    function: str

    def parse_answer(self, payload: bytes) -> TriedAgain:
        return TriedAgain.parse(payload)


AnyQuestion = GetPoolState | GetMetrics | RenewModels | CancelTask | TryAgain
Answer = PoolState | MetricsSnapshot | ModelsRenewed | CancelAnswer | TriedAgain


@functools.cache  # not at import, for the reason that the records are built late
def _questions() -> TypeAdapter[AnyQuestion]:
    return TypeAdapter(Annotated[AnyQuestion, Field(discriminator="what")])


def parse_question(payload: bytes) -> AnyQuestion:
    """The question that was sent. Raises ValueError, in one line, where it is none."""
    try:
        return _questions().validate_json(payload)
    except ValidationError as error:
        raise ValueError(f"a question that is none: {_first(error)}") from None
