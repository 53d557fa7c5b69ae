"""The version of each model that serves here: as its record has it, or the last one that loads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from skipper import selectors
from skipper.errors import NotFoundError, SkipperError
from skipper.instance.jobs import ModelRef
from skipper.ledger import Connection, Ledger, deployments, models
from skipper.ledger.records import Deployment, Fitness, ModelVersion
from skipper.pool.backoff import pause_s
from skipper.pool.processes.version import FunctionVersion
from skipper.settings.models import ModelSettings
from skipper.wire.messages import UnfitVersion

LINE = 5
"""How many versions that have been in production are known, to go back to if need be."""
LOOKED_AT = 50
"""In how many of a model's records they are looked for."""
AGAIN_S = (0.5, 30.0)
"""The first pause before an unfit version is tried again, and the longest."""
DEFAULTS = ModelSettings()


class Line(NamedTuple):
    """What may serve of one model: the version in production, then those before, newest first."""

    record: Deployment
    refs: tuple[ModelRef, ...]
    candidate: ModelRef | None = None
    """What a part of the calls is to be answered by."""
    unproven: frozenset[str] = frozenset()
    """Those of them that nobody has loaded, as far as the ledger knows."""


class Candidate(NamedTuple):
    """What ``percent`` of the calls of a function are to be served with, for the sake of a model.

    Of a function with several such models that is the first one; the others are production's.
    """

    model: str
    percent: float
    refs: tuple[ModelRef, ...]


class _Judgement(NamedTuple):
    """What has been found of a version that nobody had loaded."""

    ref: ModelRef
    state: Fitness
    reason: str | None


@dataclass(kw_only=True)
class Unfit:
    """That a version does not load here, and why."""

    reason: str
    failures: int
    again_at: float
    """When it may be tried again: what kept it from loading may pass."""


class ServedModels:
    """Follows the deployment records of models, and remembers what does not load on this host."""

    def __init__(self, ledger: Ledger, settings: Mapping[str, ModelSettings]) -> None:
        self._ledger, self._settings = ledger, settings
        self._lines: dict[str, Line] = {}
        self._unfit: dict[tuple[str, str], Unfit] = {}
        """By the version, and by who fails with it: empty where that is everybody."""
        self._others: dict[str, ModelRef | str] = {}
        """What functions ask for beside what is in production: a version, or why there is none."""
        self._unproven: set[str] = set()
        self._judgements: dict[str, _Judgement] = {}
        """By version: what the ledger is to be told, with the next look."""
        self._seen = 0

    async def refresh(self) -> None:
        """Take in what has changed since the last look."""
        seen, others = self._seen, list(self._others)
        lines, found = await self._ledger.read(
            lambda conn: (_lines_since(conn, seen), {each: _other(conn, each) for each in others})
        )
        self._others |= found
        for line in lines:
            record = line.record
            known = self._lines.get(record.name)
            if known is None or known.record.seq < record.seq:  # else a look beside this one did
                self._lines[record.name] = line
                self._unproven |= line.unproven
            self._seen = max(self._seen, record.seq)
        with contextlib.suppress(SkipperError):  # else it is told with the next look
            await self._tell_judgements()

    async def _tell_judgements(self) -> None:
        if not (judged := dict(self._judgements)):
            return
        await self._ledger.write(lambda conn: _judge(conn, judged.values()))
        for label, each in judged.items():
            if self._judgements[label] == each:
                del self._judgements[label]
            if each.state is Fitness.FIT:
                self._unproven.discard(label)

    def _found(self, ref: ModelRef, state: Fitness, reason: str | None = None) -> None:
        if ref.label in self._unproven:
            self._judgements[ref.label] = _Judgement(ref, state, reason)

    async def learn(self, names: Iterable[str]) -> None:
        """Follow from now on what a function asks for."""
        new = {each for each in names if _is_other(each)} - self._others.keys()
        if new:
            self._others |= await self._ledger.read(
                lambda conn: {each: _other(conn, each) for each in new}
            )

    def refs(self, names: Iterable[str], user: str = "") -> tuple[ModelRef, ...]:
        """The version that serves of each model in ``names`` that has one.

        Of what is in production that, unless it is unfit here; then the last before it that is not.
        """
        lines = {name: self._lines[name] for name in names if name in self._lines}
        served = {name: self._served(line, user) for name, line in lines.items()}
        return self._chosen(names, served)

    def _chosen(
        self, names: Iterable[str], of_lines: Mapping[str, ModelRef]
    ) -> tuple[ModelRef, ...]:
        found = (of_lines.get(name) or self._others.get(name) for name in names)
        return tuple(each for each in found if isinstance(each, ModelRef))

    def _served(self, line: Line, user: str) -> ModelRef:
        fit = (ref for ref in line.refs if not self._verdicts(ref, user))
        return next(fit, line.refs[0])

    def wanted(self, names: Iterable[str], user: str, now: float) -> tuple[ModelRef, ...]:
        """:meth:`refs`, with what is unfit and in production where it may be tried again."""
        lines = {name: self._lines[name] for name in names if name in self._lines}
        served = {name: self._tried(line, user, now) for name, line in lines.items()}
        return self._chosen(names, served)

    def _tried(self, line: Line, user: str, now: float) -> ModelRef:
        first = line.refs[0]
        may_be_tried = all(unfit.again_at <= now for unfit in self._verdicts(first, user))
        return first if may_be_tried else self._served(line, user)

    def candidate(self, names: Iterable[str], user: str, now: float) -> Candidate | None:
        """The candidate of the first of these models that has one which may be tried."""
        lines = {name: self._lines[name] for name in names if name in self._lines}
        for name, line in lines.items():
            ref = line.candidate
            if ref is None or any(each.again_at > now for each in self._verdicts(ref, user)):
                continue
            served = {each: self._served(known, user) for each, known in lines.items()}
            refs = self._chosen(names, served | {name: ref})
            return Candidate(name, line.record.percent, refs)
        return None

    def _verdicts(self, ref: ModelRef, user: str) -> list[Unfit]:
        found = (self._unfit.get((ref.label, whose)) for whose in {"", user})
        return [each for each in found if each is not None]

    def keep(self, names: Iterable[str]) -> int:
        """How many earlier versions stay loaded with a function that asks for these models.

        As many as the settings say of that model of which they say most.
        """
        plain = {selectors.parse(each).name for each in names}
        return max((self._settings.get(each, DEFAULTS).keep for each in plain), default=0)

    def condemn(self, ref: ModelRef, reason: str, user: str = "") -> None:
        """A version does not load here: until it does, it answers nobody, or not ``user``."""
        known = self._unfit.get((ref.label, user))
        failures = known.failures + 1 if known else 1
        first_s, longest_s = AGAIN_S
        again_at = time.monotonic() + min(longest_s, pause_s(first_s, failures))
        self._unfit[ref.label, user] = Unfit(reason=reason, failures=failures, again_at=again_at)
        if not user:
            self._found(ref, Fitness.UNFIT, reason)

    def approve(self, refs: Iterable[ModelRef], user: str = "") -> list[ModelRef]:
        """These versions have loaded here, for ``user``. Those of them that had not before."""
        loaded = [*refs]
        fresh = [ref for ref in loaded if self._verdicts(ref, user)]
        for ref in fresh:
            for whose in ("", user):
                self._unfit.pop((ref.label, whose), None)
        for ref in loaded:
            self._found(ref, Fitness.FIT)
        return fresh

    def unfit_versions(self) -> list[UnfitVersion]:
        """What is in production and does not load here, for everybody or for one function."""
        reasons = {label: unfit.reason for (label, _), unfit in self._unfit.items()}
        wanted = (line.refs[0] for line in self._lines.values())
        return [
            UnfitVersion(model=ref.name, version=ref.version, reason=reasons[ref.label])
            for ref in wanted
            if ref.label in reasons
        ]

    def reason(self, ref: ModelRef, user: str = "") -> str:
        """Why a version is unfit here; empty where it is not."""
        return next((each.reason for each in self._verdicts(ref, user)), "")

    def deployments(self, names: Iterable[str]) -> tuple[str, ...]:
        """The record that each of ``names`` follows as it is known here: ``boston/42``."""
        asked = dict.fromkeys(name for name in map(selectors.parse, names) if not name.is_pinned)
        models = dict.fromkeys(each.name for each in asked)
        return tuple(
            f"{name}/{self._lines[name].record.revision}" for name in models if name in self._lines
        )

    def untrained(self, version: FunctionVersion, trainers: Iterable[str]) -> str:
        """Why a function cannot be served for want of a model; empty where it can.

        ``trainers`` may train one, by the functions' names.
        """
        others = [self._others.get(name, "") for name in version.spec.models if _is_other(name)]
        if why := next((each for each in others if isinstance(each, str)), None):
            return why
        absent = [name for name in version.spec.models if not self.refs([name])]
        if not absent:
            return ""
        call = " or ".join(trainers) or "a training function"
        return f"model {', '.join(map(repr, absent))} has no version yet; call {call} first"


def _lines_since(conn: Connection, seq: int) -> list[Line]:
    changed = [each for each in deployments.changed_since(conn, seq) if each.production is not None]
    return [_line(conn, record) for record in changed]


def _line(conn: Connection, record: Deployment) -> Line:
    stored, candidate = _in_line(conn, record), _candidate(conn, record)
    named = [*stored, candidate] if candidate else stored
    return Line(
        record,
        tuple(map(_ref, stored)),
        _ref(candidate) if candidate else None,
        frozenset(_ref(each).label for each in named if each.state is not Fitness.FIT),
    )


def _candidate(conn: Connection, record: Deployment) -> ModelVersion | None:
    """The version that a part of the calls goes to, if it may serve."""
    if record.candidate in (None, record.production) or not record.percent:
        return None
    assert record.candidate is not None
    stored = models.get(conn, record.name, record.candidate)
    return None if stored is None or not _may_serve(stored, record) else stored


def _in_line(conn: Connection, record: Deployment) -> list[ModelVersion]:
    """What was in production, the newest first, of what is still stored."""
    past = deployments.history(conn, record.name, LOOKED_AT)
    numbers = dict.fromkeys(each.production for each in (record, *past))
    found = (
        models.get(conn, record.name, number) for number in [*numbers][:LINE] if number is not None
    )
    return [each for each in found if each is not None and _may_serve(each, record)]


def _judge(conn: Connection, judged: Iterable[_Judgement]) -> None:
    for each in judged:
        models.judge(conn, each.ref.name, each.ref.version, each.state, each.reason)


def _may_serve(stored: ModelVersion, record: Deployment) -> bool:
    if stored.state is Fitness.UNFIT:  # what is in production says itself why it cannot
        return stored.version == record.production
    return stored.state is not Fitness.REMOVED


def _is_other(name: str) -> bool:
    """Whether a function asks for something else than what is in production."""
    return "@" in name


def _other(conn: Connection, name: str) -> ModelRef | str:
    try:
        return _ref(models.resolve(conn, selectors.parse(name)), name)
    except NotFoundError as error:
        return str(error)


def _ref(stored: ModelVersion, asked: str = "") -> ModelRef:
    return ModelRef(
        asked=asked,
        name=stored.name,
        version=stored.version,
        digest=stored.digest,
        format=stored.format,
    )
