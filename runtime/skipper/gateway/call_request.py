"""What the headers of a call say: of its body, of the value that is wanted, and how."""

from __future__ import annotations

from skipper import problems
from skipper.gateway import negotiation, prefer
from skipper.gateway.calls import NO_PREFERENCES, Preferences
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.problems import Problem
from skipper.gateway.stream import stream_type
from skipper.spec import FunctionSpec, Mode
from skipper.values.value import JSON

_JSON, _ANY = b"application/json", b"*/*"
_TERMS = {name.lower().encode(): name for name in prefer.TERMS}
_STICKY = prefer.STICKY.lower().encode()
_OWN = {_STICKY, *_TERMS}


class CallRequest:
    """The headers that matter to a call, read in one pass."""

    __slots__ = (
        "accept",
        "content_type",
        "idempotency_key",
        "is_encoded",
        "prefer",
        "sticky",
        "terms",
    )

    def __init__(self, exchange: Exchange) -> None:
        self.content_type = self.accept = self.prefer = self.idempotency_key = self.sticky = b""
        self.terms: dict[str, str] | None = None
        self.is_encoded = False
        for name, value in exchange.head.headers:
            if name == b"content-type":
                self.content_type = value
            elif name == b"accept":
                self.accept = value
            elif name == b"prefer":
                self.prefer = value
            elif name == b"content-encoding":
                self.is_encoded = value.lower() != b"identity"
            elif name == b"idempotency-key":
                self.idempotency_key = value
            elif name not in _OWN:
                continue
            elif name == _STICKY:
                self.sticky = value
            else:
                self.terms = (self.terms or {}) | {_TERMS[name]: value.decode("latin-1")}

    def is_plain(self, spec: FunctionSpec) -> bool:
        """Whether the caller wants a function's value, and nothing else."""
        if self.prefer or self.terms is not None or spec.mode is Mode.TASK:
            return False
        return not (spec.streams and stream_type(self.accept))

    def is_simple(self, spec: FunctionSpec) -> bool:
        """Whether it is plain, sends JSON, and takes the value as it usually is."""
        if self.content_type != _JSON and not self.is_json:
            return False
        if spec.gives and self.accept not in (b"", _ANY):
            return False
        return self.is_plain(spec)

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON, or is not said to be anything else."""
        return self.content_type in (_JSON, b"") or self.media_type == _JSON

    @property
    def media_type(self) -> bytes:
        """The body's, without parameters."""
        return self.content_type.partition(b";")[0].strip().lower()

    def accepted(self, spec: FunctionSpec, *, as_task: bool) -> str:
        """In which type the value is to be written; empty for the usual one. Raises Problem.

        Who gets a task may have meant its document, which is JSON, or its life.
        """
        if not spec.gives or not self.accept:
            return ""
        accept = self.accept.decode("latin-1")
        if (found := negotiation.chosen(accept, spec.gives)) is not None:
            return "" if found in (spec.gives[0], "*/*") else found
        if as_task and (stream_type(self.accept) or negotiation.accepts(accept, JSON)):
            return ""
        raise negotiation.not_acceptable(f"{spec.name} answers", accept, spec.gives)

    def preferences(self) -> Preferences:
        """How the caller wants its answer. Raises a problem for what cannot be understood."""
        preferences = prefer.parse(self.prefer.decode("latin-1")) if self.prefer else NO_PREFERENCES
        if self.terms is None:
            return preferences
        try:
            return prefer.with_terms(preferences, self.terms)
        except ValueError as error:
            raise Problem(problems.BAD_REQUEST, str(error)) from None

    def sticky_key(self) -> str:
        """What the caller is to be known by, if it says so. Raises a problem for what is none."""
        if not self.sticky:
            return ""
        key = prefer.sticky_key(self.sticky.decode("latin-1"))
        if key is None:
            detail = f"{prefer.STICKY} is 1 to 255 visible ASCII characters"
            raise Problem(problems.BAD_REQUEST, detail)
        return key

    def key(self) -> str | None:
        """The Idempotency-Key, if there is one. Raises a problem for one that is none."""
        if not self.idempotency_key:
            return None
        key = prefer.idempotency_key(self.idempotency_key.decode("latin-1"))
        if key is None:
            detail = "Idempotency-Key is 1 to 255 visible ASCII characters"
            raise Problem(problems.BAD_REQUEST, detail)
        return key
