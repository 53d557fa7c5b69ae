"""Judges a round by what the driver wrote, what the tree says, and what the functions did. Pure."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, get_args

from tests.chaos import origins
from tests.chaos.evidence import Evidence, Violation
from tests.chaos.history import Effect, Effects
from tests.chaos.look import OPEN, ending
from tests.chaos.plan import Way, cancellable, echoes

_ANSWERS = {
    200,
    502,  # its process, or its host, was killed while it ran
    503,  # its host was away; nothing ran
    504,  # it waited for an instance for too long
}
_MAY_CRASH = "chaos.once"
_MARGIN_S = 0.5
"""A connection is seen to break this long before or after the kill is written down."""


def check(evidence: Evidence) -> list[Violation]:
    """Every broken promise."""
    accepted = _accepted(evidence)
    return [
        *_unaccepted(evidence, accepted),
        *_ends(evidence, accepted),
        *_values(evidence, accepted),
        *_cancels(evidence),
        *_executions(evidence),
        *_finality(evidence),
        *_models(evidence),
        *_resumed(evidence),
        *_direct(evidence),
        *_refusals(evidence.entries),
        *_recoveries(evidence.entries),
        *origins.check(evidence),
    ]


# --- acceptance ------------------------------------------------------------------------------


def _accepted(evidence: Evidence) -> dict[str, list[str]]:
    """The ids that were answered per key."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for entry in evidence.accepted(*get_args(Way)):
        found[entry["key"]].append(entry["id"])
    return dict(found)


def _unaccepted(evidence: Evidence, accepted: Mapping[str, list[str]]) -> Iterator[Violation]:
    for order in evidence.orders:
        ids = accepted.get(order.key, [])
        if not ids:
            yield Violation("unanswered", f"{order.key} was never accepted")
        elif len(set(ids)) > 1:
            yield Violation("doubled", f"{order.key} became the tasks {ids}")
    owners = Counter(id_ for ids in accepted.values() for id_ in set(ids))
    for id_, number in owners.items():
        if number > 1:
            yield Violation("doubled", f"{number} keys became the task {id_}")


# --- the end of every task -------------------------------------------------------------------


def _ends(evidence: Evidence, accepted: Mapping[str, list[str]]) -> Iterator[Violation]:
    tasks = evidence.look.tasks
    for key, ids in accepted.items():
        for id_ in set(ids) - tasks.keys():
            yield Violation("lost", f"{key} was accepted as {id_}, which is not there")
    to_cancel = {id_ for key in cancellable(evidence.orders) for id_ in accepted.get(key, ())}
    for id_, task in tasks.items():
        if task["state"] in OPEN:
            yield Violation("stuck", f"{id_} {task['function']} is still {task['state']}: {task}")
        elif task["state"] != "succeeded" and not _is_excused(id_, task, to_cancel):
            yield Violation("failed", f"{id_} {task['function']} {task['state']}: {task['error']}")


def _is_excused(id_: str, task: Mapping[str, Any], to_cancel: Collection[str]) -> bool:
    if task["state"] == "cancelled":
        return id_ in to_cancel
    has_one_attempt = task["function"] == _MAY_CRASH or origins.is_ping(task)
    return bool(task["state"] == "crashed" and has_one_attempt)


def _cancels(evidence: Evidence) -> Iterator[Violation]:
    """An end that the answer to a cancel tells is the task's end."""
    for entry in evidence.entries:
        if entry.get("op") == "cancel" and entry["what"] == "ok" and entry["state"] not in OPEN:
            task = evidence.look.tasks.get(entry["id"])
            if task is not None and task["state"] != entry["state"]:
                told = f"{entry['id']} was told to be {entry['state']} and is {task['state']}"
                yield Violation("changed", told)


def _values(evidence: Evidence, accepted: Mapping[str, list[str]]) -> Iterator[Violation]:
    """Every result is that of its own task."""
    for order in (order for order in evidence.orders if order.way == "submit"):
        for id_ in set(accepted.get(order.key, ())) & evidence.look.values.keys():
            value = evidence.look.values[id_]
            if not echoes(value, order):
                yield Violation("crossed", f"{id_} of {order.key} answers {str(value)[:300]}")


def _finality(evidence: Evidence) -> Iterator[Violation]:
    for states in evidence.later:
        for id_, task in evidence.look.tasks.items():
            if states.get(id_) != ending(task):
                yield Violation("changed", f"{id_}: {ending(task)} became {states.get(id_)}")


# --- what really ran -------------------------------------------------------------------------


def _executions(evidence: Evidence) -> Iterator[Violation]:
    for id_ in evidence.effects.by_task.keys() - evidence.look.tasks.keys():
        yield Violation("lost", f"{id_} ran and is not there")
    for id_, task in evidence.look.tasks.items():
        effects = evidence.effects.by_task.get(id_, [])
        yield from _counts(id_, task, effects)
        if not evidence.may_overlap:
            yield from _overlaps(id_, effects)


def _counts(id_: str, task: Mapping[str, Any], effects: Sequence[Effect]) -> Iterator[Violation]:
    seen = Counter((effect.attempt, effect.what) for effect in effects)
    for (attempt, what), number in seen.items():
        if number > 1:
            yield Violation("doubled", f"attempt {attempt} of {id_} wrote {what} {number} times")
        if attempt > task["attempt"]:
            yield Violation("doubled", f"attempt {attempt} of {id_} ran after its end: {task}")
    is_seen = seen[task["attempt"], "end"] or task["function"] == origins.DELIVERY
    if task["state"] == "succeeded" and not is_seen:
        yield Violation("unseen", f"{id_} succeeded in attempt {task['attempt']} without effect")


def _overlaps(id_: str, effects: Sequence[Effect]) -> Iterator[Violation]:
    """An attempt must be dead before the next one begins."""
    for earlier, later in pairwise(effects):
        if later.attempt < earlier.attempt:
            yield Violation("doubled", f"attempts of {id_} ran at once: {earlier}, {later}")


def _models(evidence: Evidence) -> Iterator[Violation]:
    """One version per training task, and the one that its result names."""
    made = Counter(version["task_id"] for version in evidence.look.versions)
    owners = {version["version"]: version["task_id"] for version in evidence.look.versions}
    for id_, value in evidence.look.values.items():
        if evidence.look.tasks[id_]["function"] == "chaos.train":
            version = value["version"]
            if made[id_] != 1 or owners.get(version) != id_:
                text = f"{id_} made {made[id_]} versions and names {version}"
                yield Violation("models", text)


def _resumed(evidence: Evidence) -> Iterator[Violation]:
    """An attempt begins at the last checkpoint of which any before it was told that it is kept."""
    for id_, effects in evidence.effects.by_task.items():
        kept = 0
        for effect in effects:
            word, _, step = effect.what.partition(":")
            if word == "kept":
                kept = max(kept, int(step))
            elif word == "from" and int(step) < kept:
                text = f"attempt {effect.attempt} of {id_} began at {step}, and {kept} was kept"
                yield Violation("resumed", text)


# --- direct calls ----------------------------------------------------------------------------


class _Outages:
    """When connections may break: as a gateway dies, and while there is no tree."""

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self._deaths: list[float] = []
        self._gaps: list[tuple[float, float]] = []
        gone_at: float | None = None
        for entry in entries:
            if entry["what"] in ("fault", "hit") and entry["role"] in ("gateway", "launcher"):
                self._deaths.append(entry["t"])
            if entry.get("role") != "launcher":
                continue
            if entry["what"] == "fault" and gone_at is None:
                gone_at = entry["t"]
            elif entry["what"] == "recovery" and gone_at is not None:
                self._gaps.append((gone_at, entry["t"]))
                gone_at = None
        if gone_at is not None:
            self._gaps.append((gone_at, math.inf))

    def cut(self, begun: float, ended: float) -> bool:
        """Whether a gateway died meanwhile, or there was none because the launcher had died."""
        died = any(begun - _MARGIN_S <= t <= ended + _MARGIN_S for t in self._deaths)
        return died or self.refuse(begun)

    def refuse(self, t: float) -> bool:
        """Whether at ``t`` a launcher was dead and the next not yet there."""
        return any(gone - _MARGIN_S <= t <= back + _MARGIN_S for gone, back in self._gaps)


def _direct(evidence: Evidence) -> Iterator[Violation]:
    begun: dict[str, Mapping[str, Any]] = {}
    outages = _Outages(evidence.entries)
    for entry in evidence.entries:
        if entry.get("op") not in ("echo", "serve"):
            continue
        if entry["what"] == "invoke":
            begun[entry["nonce"]] = entry
            continue
        start = begun.pop(entry["nonce"])
        if entry["what"] == "ok":
            yield from _answer(entry, evidence.effects)
        elif not outages.cut(start["t"], entry["t"]):
            told = f"{entry['nonce']} after {entry['t'] - start['t']:.1f} s: {entry['error']}"
            yield Violation("unanswered", told)
    for nonce in begun:
        yield Violation("unanswered", f"{nonce} never heard anything")
    for nonce, effects in evidence.effects.direct.items():
        if len([effect for effect in effects if effect.what == "start"]) > 1:
            yield Violation("doubled", f"the direct call {nonce} ran more than once")


def _refusals(entries: Sequence[Mapping[str, Any]]) -> Iterator[Violation]:
    """The port is the launcher's: a gateway's death closes connections and refuses none."""
    outages = _Outages(entries)
    for entry in entries:
        is_refused = entry["what"] == "info" and "Connect" in entry["error"]
        if is_refused and not outages.refuse(entry["t"]):
            told = f"{entry.get('key') or entry.get('nonce')}: {entry['error']}"
            yield Violation("unanswered", f"no connection for {told}")


def _answer(entry: Mapping[str, Any], effects: Effects) -> Iterator[Violation]:
    """One answer to a direct call."""
    nonce, status = entry["nonce"], entry["status"]
    if status not in _ANSWERS:
        yield Violation("unanswered", f"{nonce} was answered {status}: {entry['body']}")
    if status != 200:
        return
    if json.loads(entry["body"])["nonce"] != nonce:
        yield Violation("crossed", f"{nonce} was answered {entry['body']}")
    if not any(effect.what == "end" for effect in effects.direct.get(nonce, ())):
        yield Violation("unseen", f"{nonce} was answered without effect")
    if entry["op"] == "serve":
        version = int(entry["model"].partition("@")[2] or 0)
        if version < entry["newest"]:
            told = f"{nonce} was answered by version {version}, after {entry['newest']} was seen"
            yield Violation("models", told)


def _recoveries(entries: Iterable[Mapping[str, Any]]) -> Iterator[Violation]:
    for entry in entries:
        if entry["what"] == "recovery" and entry["seconds"] is None:
            yield Violation("stuck", f"{entry['name']} did not come back")
        elif entry["what"] == "left":
            yield Violation("orphans", f"after the launcher's death: {entry['processes']}")
