"""What a flow yields and what it is sent: requests, pauses, replies. No I/O."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self, TypeAlias, TypeVar

from skipper.errors import DeadlineError, UnavailableError

ANSWER_S = 30.0
"""How long the gateway may take over anything that runs no function."""


class RequestBody(Protocol):
    """What is sent piece by piece."""

    @property
    def size(self) -> int | None:
        """In bytes, where that is known."""
        ...

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent, again or at all."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, from the beginning."""
        ...


class Outlet:
    """A stream that an answer's content is written to as it comes: it cannot be taken back."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.is_begun = False
        """Whether something has been written, so that the request must not be sent again."""

    def __enter__(self) -> Self:
        return self

    def write(self, data: bytes) -> None:
        """Pass on a part of the content."""
        self.is_begun = True
        self._stream.write(data)

    def __exit__(self, *_: object) -> None:
        self._stream.flush()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request. ``timeout_s`` bounds the silence before and within the answer.

    After a lost connection a *repeatable* one is sent again. A *patient* one also waits for a
    gateway that cannot be reached at first: it knows that there was one a moment ago.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | RequestBody | None = None
    timeout_s: float | None = ANSWER_S
    is_repeatable: bool = True
    is_patient: bool = False
    to: Path | Outlet | None = None
    """Where the content of an answer is written that has one; it is never held as a whole."""

    @property
    def can_be_sent(self) -> bool:
        """Whether its body is there, again or still, and nothing of an answer has gone out."""
        content = self.content
        if isinstance(self.to, Outlet) and self.to.is_begun:
            return False
        return content is None or isinstance(content, bytes) or content.is_repeatable


@dataclass(frozen=True, kw_only=True)
class Terms:
    """When and how urgently a task is to run; what is None is left to its function.

    Times are seconds, or text such as ``"90s"`` or ``"5m"``.
    """

    priority: int | None = None
    delay: float | str | None = None
    expires: float | str | None = None

    def headers(self) -> dict[str, str]:
        """The request headers that carry them."""
        given = {
            "x-skipper-priority": self.priority,
            "x-skipper-delay": self.delay,
            "x-skipper-expires": self.expires,
        }
        return {name: str(value) for name, value in given.items() if value is not None}


NO_TERMS = Terms()


@dataclass(frozen=True, kw_only=True)
class WantedValue:
    """How a value is to come: an ``Accept`` header, empty for what becomes a value of Python's.

    With ``to`` it is written there.
    """

    accept: str = ""
    to: Path | Outlet | None = None


AS_VALUE = WantedValue()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One HTTP response. ``headers`` finds names in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    saved: Path | None = None
    """Where the content is, in place of here."""

    def json(self) -> Any:
        """The content. Raises UnavailableError for what is not JSON: no gateway has sent it."""
        try:
            return json.loads(self.content)
        except ValueError:
            raise UnavailableError(
                f"The answer is not JSON ({self.content[:80]!r}); is this a Skipper gateway's URL?"
            ) from None


@dataclass(frozen=True)
class Pause:
    """Wait before the next request."""

    seconds: float


class LostError(UnavailableError):
    """The connection failed. ``was_sent``: the gateway may have seen the request."""

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__(message)
        self.was_sent = was_sent


T = TypeVar("T")
Flow: TypeAlias = Generator[Request | Pause, Reply | None, T]


def resume(flow: Flow[Any], answer: Reply | Exception | None) -> Request | Pause:
    """The flow's next step, given what came of the last one."""
    return flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)


class Deadline:
    """When a caller stops waiting; never, for None."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._at = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float | None:
        """Seconds that are left, 0 once the time is over; None without a limit."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def check(self, what: str) -> None:
        """Raise DeadlineError, naming ``what`` goes on, once the time is over."""
        if self.left_s() == 0.0:
            raise DeadlineError(f"No answer within {self._timeout_s:g} s. {what}")

    def within(self, seconds: float) -> float:
        """``seconds``, or what is left if that is less."""
        left = self.left_s()
        return seconds if left is None else min(seconds, left)

    def bound(self, request: Request) -> Request:
        """``request`` with no more time than is left."""
        limits = [limit for limit in (request.timeout_s, self.left_s()) if limit is not None]
        return replace(request, timeout_s=min(limits, default=None))


def merged(body: Any, params: Mapping[str, Any]) -> Any:
    """The body of a call: ``params``, added to ``body`` where there is one.

    Raises TypeError for ``params`` beside a body that is no object.
    """
    if body is None:
        return dict(params)
    if params and not isinstance(body, Mapping):
        raise TypeError("keyword arguments can be added to a dict body only")
    return {**body, **params} if params else body


def to_body(value: Any) -> bytes:
    """The JSON of plain data, models and arrays. Raises TypeError for what is none."""
    from pydantic_core import PydanticSerializationError, to_json

    try:
        # As texts, which a float is read from, because JSON has no numbers for NaN and infinities.
        return to_json(value, fallback=_plain, inf_nan_mode="strings")
    except PydanticSerializationError as error:
        raise TypeError(f"the body is not JSON: {error}") from None


def _plain(value: Any) -> Any:
    if callable(convert := getattr(value, "tolist", None)):  # NumPy, and what is like it
        return convert()
    raise TypeError(f"send plain data or a pydantic model, not {type(value).__name__}")
