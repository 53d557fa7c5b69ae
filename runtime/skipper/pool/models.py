"""The version of each model that serves, as this host's instances should hold it."""

from __future__ import annotations

from collections.abc import Iterable

from skipper.instance.jobs import ModelRef
from skipper.ledger import Connection, Ledger, deployments, models
from skipper.pool.processes.version import FunctionVersion


class ServedModels:
    """Follows the deployment records of models, by their sequence number."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._refs: dict[str, ModelRef] = {}
        self._seen = 0

    async def refresh(self) -> list[ModelRef]:
        """Take in what has changed since the last look; what is in production of each model."""
        seen = self._seen
        found = await self._ledger.read(lambda conn: _deployed_since(conn, seen))
        fresh: list[ModelRef] = []
        for ref in found:
            known = self._refs.get(ref.name)
            if known is None or known.seq < ref.seq:  # else a look beside this one took it in
                self._refs[ref.name] = ref
                fresh.append(ref)
            self._seen = max(self._seen, ref.seq)
        return fresh

    def refs(self, names: Iterable[str]) -> tuple[ModelRef, ...]:
        """The version that serves of each model in ``names`` that has one."""
        return tuple(self._refs[name] for name in names if name in self._refs)

    def untrained(self, version: FunctionVersion, functions: Iterable[FunctionVersion]) -> str:
        """Why a function cannot be served for want of a model; empty where it can."""
        absent = [name for name in version.spec.models if name not in self._refs]
        if not absent:
            return ""
        trainers = [each.name for each in functions if each.spec.kind == "training"]
        beside = [name for name in trainers if name.partition(".")[0] == version.source.name]
        call = " or ".join(beside or trainers) or "a training function"
        return f"model {', '.join(map(repr, absent))} has no version yet; call {call} first"


def _deployed_since(conn: Connection, seq: int) -> list[ModelRef]:
    found = []
    for each in deployments.changed_since(conn, seq):
        if each.production is None:
            continue
        stored = models.get(conn, each.name, each.production)
        assert stored is not None  # because a record names published versions alone
        found.append(
            ModelRef(
                name=each.name,
                version=stored.version,
                digest=stored.digest,
                format=stored.format,
                seq=each.seq,
            )
        )
    return found
