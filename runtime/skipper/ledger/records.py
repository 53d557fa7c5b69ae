"""What goes into the ledger's operations and comes out of them, beside ``Task`` and ``Attempt``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from skipper.task import State, Task
from skipper.values.value import Value


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTask:
    """A task to accept. ``available_at`` after ``created_at`` delays its start."""

    id: str
    function: str
    kind: str
    pool: str
    created_at: float
    available_at: float
    input: Value
    max_attempts: int = 1
    priority: int = 0
    timeout_s: float | None = None
    parent_id: str | None = None
    depth: int = 0
    request_id: str | None = None
    schedule: str | None = None
    idempotency_key: str | None = None
    idempotency_hash: str | None = None
    expires_at: float | None = None
    concurrency: int | None = None
    """So many tasks of its function and ``concurrency_key`` may run at once; None: any number."""
    concurrency_key: str | None = None
    """Empty where the function has no key; None where it is not bounded."""
    detached: int = 0
    """1: it is not cancelled with its parent."""


class Refusal(StrEnum):
    """Why a new task is not accepted."""

    WAITING = "waiting"
    """As many of its function wait as may."""
    STORED = "stored"
    """As many bytes of inputs and results are kept as may be."""
    OVERLAP = "overlap"
    """The last run of its schedule goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskBounds:
    """How many tasks of a function may wait, and how many bytes tasks may keep."""

    waiting: int
    stored: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """What became of a :class:`NewTask`.

    Where its idempotency key was known nothing was written: ``earlier`` is the task that has the
    key, and ``matches`` whether that one was asked for with the same hash. Nor was anything where
    there is a ``refusal``.
    """

    id: str
    earlier: Task | None = None
    matches: bool = True
    refusal: Refusal | None = None

    @property
    def is_new(self) -> bool:
        return self.earlier is None and self.refusal is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Claiming:
    """A host's wish to run some tasks."""

    ids: tuple[str, ...]
    host: str
    now: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A task that now belongs to one attempt of one host. ``spent`` attempts have been used up."""

    task: Task
    attempt: int
    spent: int
    depth: int
    input: Value


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """What runs an attempt, once its function has started."""

    id: str
    attempt: int
    host: str
    instance: str | None = None
    code: str | None = None
    model: str | None = None
    deadline_at: float | None = None


class WaitingTask(NamedTuple):
    """A task that may be claimed now."""

    id: str
    function: str
    priority: int
    created_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How an attempt ended.

    With ``retry_at`` the task is tried again at that time, if it has attempts left.
    """

    state: State
    result: Value | None = None
    error: dict[str, Any] | None = None
    code: str | None = None
    model: str | None = None
    instance: str | None = None
    retry_at: float | None = None
    rescue: tuple[str, ...] = ()
    """Blobs of what was trained and is not published; the first lists the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finishing:
    """The end of one attempt, by its host."""

    id: str
    attempt: int
    host: str
    ending: Ending
    now: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """A task that no host runs any more, and what it became."""

    id: str
    pool: str
    state: State


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancelling:
    """Where a task stands after a cancel. While it runs, ``host`` is who must stop it."""

    state: State
    host: str | None = None
    already_ended: bool = False
    running: tuple[tuple[str, str], ...] = ()
    """Id and pool of each task that is to stop: itself, and what it has started."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """A schedule as code or settings declare it, with what is needed to make its tasks.

    ``missed`` is a :class:`~skipper.cron.Missed`, ``overlap`` an
    :class:`~skipper.cron.Overlap`; ``origin`` is ``code`` or ``settings``.
    """

    name: str
    function: str
    kind: str
    pool: str
    cron: str
    timezone: str
    missed: str
    body: bytes
    origin: str
    max_attempts: int
    timeout_s: float | None
    starts_paused: bool
    priority: int = 0
    expires_s: float | None = None
    overlap: str = "queue"
    concurrency: int | None = None
    concurrency_key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A schedule and how far it has come. ``next_at`` is None until a scheduler has seen it.

    ``gone_at`` is since when nobody declares it any more; until it is declared again it rests.
    """

    declared: Declaration
    is_paused: bool
    next_at: float | None
    last_at: float | None
    last_task_id: str | None
    gone_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Firing:
    """A schedule, as it was when somebody looked, moves to ``next_at`` and makes ``tasks``."""

    schedule: Schedule
    next_at: float | None
    tasks: tuple[NewTask, ...] = ()


class Result(NamedTuple):
    """A task with its result, which it has once it has succeeded."""

    task: Task
    value: Value | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HostRecord:
    """A pool host, or a scheduler. Its ``seat`` can be held by one process at a time."""

    id: str
    pool: str
    machine: str
    seat: str
    started_at: float


class Beat(NamedTuple):
    """A host's heartbeat: a counter that stands still when the host does."""

    id: str
    pool: str
    counter: int


class Fitness(StrEnum):
    """What is known of a version of a model."""

    STORED = "stored"
    """Nobody has loaded it yet."""
    FIT = "fit"
    """A fresh process has loaded and tried it."""
    UNFIT = "unfit"
    """It cannot be loaded, or has failed when it was tried: it never answers a caller."""
    REMOVED = "removed"
    """What it consists of is no longer kept. Its number is not given again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewCheckpoint:
    """Where an attempt has come to, in the store: a later attempt may go on from there."""

    task_id: str
    attempt: int
    host: str
    digest: str
    format: str
    size: int
    refs: tuple[str, ...]
    """The blobs that it consists of, ``digest`` among them."""
    at: float
    progress: dict[str, Any] | None = None
    """What the run had last reported of its progress."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A recorded checkpoint. ``attempt`` is 0 where the task it was made for is another one."""

    number: int
    attempt: int
    digest: str
    format: str
    size: int
    at: float
    progress: dict[str, Any] | None


class NotKept(StrEnum):
    """Why a checkpoint is not recorded."""

    TAKEN = "taken"
    """The attempt has the task no more."""
    FULL = "full"
    """As many bytes of checkpoints are kept as may be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointBounds:
    """How many checkpoints of one task are kept, and how many bytes of all."""

    each: int
    stored: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersionNew:
    """A model to publish, by the attempt that made it."""

    name: str
    digest: str
    format: str
    task_id: str
    attempt: int
    host: str
    function: str
    created_at: float
    metrics: dict[str, Any] | None = None
    params: dict[str, Any] | None = None
    code: str | None = None
    size: int | None = None
    state: Fitness = Fitness.STORED
    reason: str | None = None
    step: int = -1
    """Which of those that its task saves under this name; -1 is the one that it returns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedModel:
    """A model that was made elsewhere; ``origin`` is where, and who has brought it, as JSON."""

    name: str
    digest: str
    format: str
    function: str
    created_at: float
    metrics: dict[str, Any] | None
    params: dict[str, Any] | None
    code: str | None
    size: int
    origin: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """A published model. ``seq`` counts the publications of all models.

    ``size`` is in bytes, where it is known; ``reason`` says why it is unfit; ``gate`` what the
    model's gate found and decided, as JSON. One that was imported has an ``origin``, and its
    ``task_id`` is empty.
    """

    name: str
    version: int
    digest: str
    format: str
    metrics: dict[str, Any] | None
    params: dict[str, Any] | None
    code: str | None
    task_id: str
    function: str
    created_at: float
    seq: int
    size: int | None
    state: Fitness
    reason: str | None
    gate: dict[str, Any] | None
    origin: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """Whether a version that is published is to serve; at first ``percent`` of calls, if not 0.

    ``gate`` is what stays with the version about that.
    """

    serves: bool = True
    percent: float = 0.0
    gate: dict[str, Any] | None = None


Admit: TypeAlias = Callable[[ModelVersion | None], Admission | None]
"""Decides, given what is in production; None where it was asked about something else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forced:
    """Who has a version promoted that its gate keeps out, when, and why."""

    by: str
    why: str
    at: float


class ShelvedVersion(NamedTuple):
    """A version that is kept, and when it was made."""

    version: int
    created_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeping:
    """What of a model is kept: so many of the newest, what was made since then; and in words."""

    versions: int | None
    since: float | None
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleared:
    """Which versions have been removed, the newest first, and who holds which of the others."""

    removed: tuple[int, ...]
    held: dict[int, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Whether a version serves, and ``why`` it does not."""

    serves: bool
    why: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """Which versions of a model serve, since when, by whose wish and why.

    ``percent`` of the keys of calls go to the ``candidate``; a ``shadow`` answers no caller, but
    for functions that ask for it by that name; ``aliases`` are further names for versions.
    ``previous`` is what was in production before. ``seq`` counts the changes of all models, so of
    two records the one with the higher ``seq`` holds; ``revision`` counts those of this model, 0
    before its first. ``by`` is None where the publication of a version made the change.
    """

    name: str
    production: int | None = None
    previous: int | None = None
    candidate: int | None = None
    percent: float = 0.0
    shadow: int | None = None
    aliases: dict[str, int] = field(default_factory=dict)
    seq: int = 0
    revision: int = 0
    at: float = 0.0
    by: str | None = None
    why: str | None = None

    @property
    def versions(self) -> tuple[int, ...]:
        """Those that it names, each once."""
        named = (self.production, self.previous, self.candidate, self.shadow)
        found = (each for each in (*named, *self.aliases.values()) if each is not None)
        return tuple(dict.fromkeys(found))

    @property
    def serving(self) -> dict[str, int]:
        """Those that somebody may be answered by or ask for, by role and alias."""
        roles = {"production": self.production, "candidate": self.candidate, "shadow": self.shadow}
        return {role: each for role, each in roles.items() if each is not None} | self.aliases


@dataclass(frozen=True, kw_only=True, slots=True)
class NewEvent:
    """Something that an attempt of a task emitted: its ``number``-th line, or point of a curve."""

    task_id: str
    attempt: int
    number: int
    at: float
    type: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A recorded event; ``seq`` rises with every one of the store.

    ``number`` counts what its attempt emitted of its kind, so a gap in it is how much is not kept.
    Both it and ``attempt`` are 0 in events from before they were recorded.
    """

    seq: int
    at: float
    type: str
    data: dict[str, Any]
    attempt: int = 0
    number: int = 0

    @property
    def is_log(self) -> bool:
        return self.type == "log"


class Cut(NamedTuple):
    """Events to take out again: an attempt's lines, or its points, between two numbers."""

    task_id: str
    attempt: int
    is_log: bool
    first_seq: int
    last_seq: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRecord:
    """A file that a caller has uploaded; times in seconds since the epoch."""

    id: str
    ref: str
    """The blob that has its content: SHA-256."""
    size: int
    media_type: str
    name: str | None
    created_at: float
    expires_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What retention took: ids of tasks, and blobs that no task refers to any more."""

    ids: tuple[str, ...]
    refs: tuple[str, ...]
