"""Judges the inputs of tasks before they are accepted: loads a file of functions, and runs none.

A process that does this has no model, no device and no slot, so asking costs no serving process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from skipper.errors import DefinitionError
from skipper.function.decorators import Function
from skipper.instance.link import HostLink
from skipper.instance.refusals import refusal
from skipper.outcomes import Outcome
from skipper.values.envelope import as_envelope
from skipper.values.opening import NO_PLACES, OpenParts, Places
from skipper.wire import calls
from skipper.wire.frames import FrameKind

Checks = Mapping[str, "InputCheck"]
"""What judges the inputs of each function, by its name."""


class InputCheck:
    """Judges bodies for one function."""

    def __init__(self, function: Function[..., Any], code: str, places: Places) -> None:
        self._signature, self._places = function.signature, places
        self._is_batched = "batch" in function.options
        self._served = calls.served_by(code)

    def reply(self, body: bytes) -> bytes:
        """A reply: OK, or what a call with this body would be refused with."""
        try:
            envelope = as_envelope(body)
            text, parts = envelope.json or b"", OpenParts(envelope.parts, self._places)
            if not self._is_batched or self._signature.parse_items(text, parts) is None:
                self._signature.parse(text, parts)
        except BaseException as error:  # noqa: BLE001 - a validator of the user's may raise anything
            return refusal(error, self._served)
        return calls.reply(Outcome.OK, self._served, b"")


def checks_of(
    functions: Iterable[Function[..., Any]], code: str, places: Places = NO_PLACES
) -> Checks:
    """What judges the inputs of a file's functions, of those that can be served."""
    checks = {}
    for function in functions:
        with contextlib.suppress(DefinitionError):  # which reading the file has told
            checks[function.name] = InputCheck(function, code, places)
    return checks


def serve(link: HostLink, checks: Checks) -> None:
    """Judge inputs until the host hangs up, which raises HostGoneError."""
    while True:
        frame = link.next()
        if frame.kind == FrameKind.CHECK:
            link.send(FrameKind.REPLY, frame.id, _reply(checks, frame.payload))


def _reply(checks: Checks, payload: bytes) -> bytes:
    head, at = calls.parse_call(payload)
    if (check := checks.get(head.name)) is None:
        return calls.problem(Outcome.NOT_FOUND, f"its file defines no function {head.name!r}")
    return check.reply(payload[at:])
