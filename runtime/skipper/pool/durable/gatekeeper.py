"""Asks a model's gate whether a version may serve: its rules, or a function of the project's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from skipper.errors import UnavailableError
from skipper.ledger.records import Admission, Admit, ModelVersion, ModelVersionNew
from skipper.outcomes import MEANINGS, Outcome
from skipper.pool.durable import gate
from skipper.settings.models import ModelSettings
from skipper.spec import Mode
from skipper.wire import calls
from skipper.wire.calls import CallHead
from skipper.wire.directory import Directory

LIMIT_S = 30.0
"""How long a function may take to say whether a version may serve."""
_USUAL = ModelSettings()


class Gatekeeper:
    """Decides by the settings of each model; functions are called over ``directory``."""

    def __init__(
        self,
        settings: Mapping[str, ModelSettings],
        directory: Directory,
        *,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._settings, self._directory, self._limit_s = settings, directory, limit_s

    async def admit(self, new: ModelVersionNew, held: ModelVersion | None) -> Admit:
        """What decides about a version, within the transaction that publishes it.

        ``held`` is what is in production now. A function is asked here, beforehand; where
        something else is in production by then, that decision holds no more.
        """
        settings = self._settings.get(new.name, _USUAL)
        rules = settings.gate
        if not isinstance(rules, str):
            return lambda there: _admitted(
                settings, gate.judged(rules, new.metrics, _production(there)) if rules else None
            )
        found = await self._asked(rules, new, held)

        def admit(there: ModelVersion | None) -> Admission | None:
            is_same = (there and there.version) == (held and held.version)
            return _admitted(settings, found) if is_same else None

        return admit

    async def _asked(
        self, function: str, new: ModelVersionNew, held: ModelVersion | None
    ) -> dict[str, Any]:
        production = _production(held)
        body = {"version": _told(new), "production": _told(held) if held else None}
        try:
            reply = await asyncio.wait_for(self._reply(function, body), self._limit_s)
        except TimeoutError:
            reason = f"did not answer within {self._limit_s:g} s"
            return gate.failed(function, reason, production)
        except (UnavailableError, LookupError) as error:
            return gate.failed(function, f"could not be asked: {error}", production)
        outcome, _, answer = calls.parse_reply(reply)
        if outcome == Outcome.OK:
            return gate.answered(function, json.loads(answer), production)
        detail = json.loads(answer).get("detail", "")
        reason = f"ended {MEANINGS[outcome].state}: {detail:.300}"
        return gate.failed(function, reason, production)

    async def _reply(self, function: str, body: Mapping[str, Any]) -> bytes:
        found = await self._directory.find(function, self._limit_s)
        if found is None:
            raise LookupError(f"there is no function {function!r}")
        spec, link = found
        if spec.mode is Mode.TASK:
            raise LookupError("it is answered with a task; make it a function of data")
        head = CallHead(int(self._limit_s * 1000), 0, 0, function, "")
        content = json.dumps(body).encode()
        ends = asyncio.get_running_loop().time() + self._limit_s
        waiting = link.call(calls.call_head(head) + content, ends)
        try:
            return await waiting.reply
        finally:
            link.cancel(waiting)


def kept_out(held: ModelVersion | None) -> Admission:
    """What is decided where production has changed again and again while a gate was asked."""
    why = "what is in production changed while its gate was asked: promote it, or train again"
    return Admission(serves=False, gate=gate.verdict([why], _production(held)))


def _admitted(settings: ModelSettings, decided: dict[str, Any] | None) -> Admission:
    passed = decided is None or decided["passed"]
    serves = passed and settings.promote == "auto"
    return Admission(serves=serves, percent=settings.canary.percent, gate=decided)


def _production(held: ModelVersion | None) -> gate.Production | None:
    return gate.Production(version=held.version, metrics=held.metrics) if held else None


def _told(version: ModelVersion | ModelVersionNew) -> dict[str, Any]:
    """A version as the function is given it."""
    names = ("name", "metrics", "params", "code", "format", "size")
    told = {name: getattr(version, name) for name in names}
    return told | {"version": getattr(version, "version", None)}
