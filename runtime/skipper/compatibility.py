"""What callers of a function meet when it changes: what is refused, missing or new. Pure.

All of it is one question asked in two directions: whether whatever fits one JSON schema fits
another. Bodies that were right must fit the new input; values that are given must fit the old
output. The other way round tells what only widens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from skipper.containment import BREAKING, Gap, GapKind, Schema, gaps, members_of, resolved

Phrases = Mapping[GapKind, str]

_REFUSED = {
    GapKind.MISSING: "asks for {name}, which callers have not sent so far",
    GapKind.OPTIONAL: "asks for {name}, which callers could leave out",
    GapKind.UNKNOWN: "takes no {name} any more",
    GapKind.OPEN: "takes no members any more that it does not name",
    GapKind.TYPE: "takes {taken}, where {sent} was right",
    GapKind.VALUES: "takes {sent} no more",
    GapKind.CHOICE: "takes only {taken}",
    GapKind.LIMIT: "has {keyword} {taken}, where it was {sent}",
}
"""Of what callers send: it was right, and is taken no more."""
_UNREAD = {GapKind.IGNORED: "reads no {name} any more, and lets it pass"}
"""Of what callers send: it is refused no more than before, and does nothing."""
_TAKEN = {
    GapKind.MISSING: "asks for {name} no more",
    GapKind.OPTIONAL: "can do without {name}",
    GapKind.UNKNOWN: "takes {name}, too",
    GapKind.OPEN: "takes members that it does not name",
    GapKind.TYPE: "takes {sent}, where it took {taken}",
    GapKind.VALUES: "takes {sent}, too",
    GapKind.CHOICE: "takes more than {taken}",
    GapKind.LIMIT: "has {keyword} {sent}, where it was {taken}",
}
"""Of what callers may send from now on: it was refused."""
_ODD = {
    GapKind.MISSING: "gives no {name} any more",
    GapKind.OPTIONAL: "may leave {name} out",
    GapKind.TYPE: "gives {sent}, where it was {taken}",
    GapKind.VALUES: "may give {sent}",
    GapKind.CHOICE: "may give more than {taken}",
    GapKind.LIMIT: "has {keyword} {sent}, where it was {taken}",
}
"""Of what a function gives: callers have not met it so far."""
_DROPPED = dict.fromkeys((GapKind.IGNORED, GapKind.UNKNOWN), "gives no {name} any more")
"""Of a member that was there in fact, though the schema did not promise it."""
_KEPT = {
    GapKind.MISSING: "gives {name}, too",
    GapKind.OPTIONAL: "always gives {name}",
    GapKind.TYPE: "gives {taken}, where it was {sent}",
    GapKind.VALUES: "gives {sent} no more",
    GapKind.CHOICE: "gives only {taken}",
    GapKind.LIMIT: "has {keyword} {taken}, where it was {sent}",
}
"""Of what a function gave: it does so no more, and callers need not mind."""


class Interface(NamedTuple):
    """What callers of a function rely on."""

    input: Schema
    output: Schema
    mode: str = "direct"
    streams: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Interface:
        """That of a function as ``/v1/functions`` tells it."""
        return cls(
            input=document.get("input_schema") or {},
            output=document.get("output_schema") or {},
            mode=document.get("mode") or "direct",
            streams=bool(document.get("streams")),
        )


class Change(NamedTuple):
    """One thing that callers of a function meet; it either breaks some of them or none."""

    function: str
    where: str
    """``input``, ``output``, or ``function`` for the whole."""
    pointer: str
    """A JSON pointer into the body or the value, where ``*`` stands for any item or member."""
    text: str
    breaks: bool

    def __str__(self) -> str:
        at = "" if self.where == "function" else f" ({self.where} {self.pointer or '/'})"
        return f"{self.function} now {self.text}{at}"


def changes(function: str, old: Interface, new: Interface) -> list[Change]:
    """What the change of a function from ``old`` to ``new`` means to its callers."""
    return [
        *_of_the_whole(function, old, new),
        *input_changes(function, old.input, new.input),
        *_output_changes(function, old.output, new.output),
    ]


def gone(function: str) -> Change:
    """A function that is served no more."""
    return Change(function, "function", "", "is gone", breaks=True)


def input_changes(function: str, old: Schema, new: Schema) -> list[Change]:
    """What the change of its input means to those who call it."""
    refused = gaps(old, new)
    if any(gap.kind in BREAKING for gap in refused) and (text := _reshaped(old, new)):
        return [Change(function, "input", "", text, breaks=True)]
    told = _Telling(function, "input")
    return [
        *told.breaking(refused, _REFUSED),
        *told.harmless(refused, _UNREAD),
        *told.harmless(_beside(gaps(new, old), refused), _TAKEN),
    ]


def _output_changes(function: str, old: Schema, new: Schema) -> list[Change]:
    odd, other = gaps(new, old), gaps(old, new)
    places, told = {gap.pointer for gap in odd}, _Telling(function, "output")
    return [
        *told.breaking(odd, _ODD),
        *told.breaking((gap for gap in other if gap.pointer not in places), _DROPPED),
        *told.harmless(_beside(other, odd), _KEPT),
    ]


def _beside(opened: Iterable[Gap], broken: Iterable[Gap]) -> list[Gap]:
    """What only widens: not what has changed into something else at the same place."""
    told = {(gap.pointer, gap.kind) for gap in broken}
    return [gap for gap in opened if (gap.pointer, gap.kind) not in told]


class _Telling(NamedTuple):
    """Puts gaps of one side of a function into words."""

    function: str
    where: str

    def breaking(self, found: Iterable[Gap], phrases: Phrases) -> Iterator[Change]:
        return self._changes(found, phrases, breaks=True)

    def harmless(self, found: Iterable[Gap], phrases: Phrases) -> Iterator[Change]:
        return self._changes(found, phrases, breaks=False)

    def _changes(self, found: Iterable[Gap], phrases: Phrases, *, breaks: bool) -> Iterator[Change]:
        for gap in found:
            if (phrase := phrases.get(gap.kind)) is not None:
                text = phrase.format(**gap.words())
                yield Change(self.function, self.where, gap.pointer, text, breaks=breaks)


def _of_the_whole(function: str, old: Interface, new: Interface) -> Iterator[Change]:
    if old.mode != new.mode:
        text = "answers with a task" if new.mode == "task" else "answers with its value, not a task"
        yield Change(function, "function", "", text, breaks=True)
    if old.streams != new.streams:
        text = "gives a stream of items" if new.streams else "gives one value, not a stream"
        yield Change(function, "function", "", text, breaks=True)


def _reshaped(old: Schema, new: Schema) -> str:
    """In words, where the body was one model and is an object of parameters now, or back."""
    if name := _member_that_was(old, new):
        return f"asks for an object of parameters: what was the body is its member `{name}`"
    if name := _member_that_was(new, old):
        return f"asks for what was its member `{name}` as the body"
    return ""


def _member_that_was(body: Schema, holder: Schema) -> str:
    """The member of ``holder`` whose own members are those of ``body``."""
    names = members_of(body).keys()
    return next(
        (
            name
            for name, member in members_of(holder).items()
            if names and members_of(resolved(member, holder)).keys() == names
        ),
        "",
    )
