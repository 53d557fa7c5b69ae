"""What is sent: good messages with a few things wrong, from one seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from skipper.outcomes import Outcome
from skipper.wire import frames
from skipper.wire.calls import STREAM, CallHead, call_head, problem, reply
from skipper.wire.frames import FrameKind
from skipper.wire.messages import (
    PROTOCOL,
    CancelTask,
    GetMetrics,
    GetPoolState,
    Hello,
    RenewModels,
)

METHODS = b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT PURGE get G\x00T".split()
TARGETS = (
    b"/livez",
    b"/readyz?verbose",
    b"/metrics",
    b"/openapi.json",
    b"/docs",
    b"/v1/functions",
    b"/v1/functions/bodies.add",
    b"/v1/functions/bodies.add/invoke",
    b"/v1/functions/bodies.echo/invoke",
    b"/v1/functions/bodies.price/invoke",
    b"/v1/functions/batches.total/invoke",
    b"/v1/functions/nothing.here/invoke",
    b"/v1/tasks?limit=3&state=queued",
    b"/v1/tasks?cursor=AAAA",
    b"/v1/tasks/01a2b3c4d5e6f708/result",
    b"/v1/tasks/01a2b3c4d5e6f708/events",
    b"/v1/tasks/01a2b3c4d5e6f708/logs?attempt=1&cursor=5",
    b"/v1/models",
    b"/v1/pools",
    b"/v1/schedules",
    b"/v1/webhooks",
    b"*",
    b"http://localhost/livez",
)
HEADERS = (
    (b"Accept", b"text/event-stream"),
    (b"Accept", b"application/jsonl"),
    (b"Accept", b"*/*"),
    (b"Authorization", b"Bearer 0123456789abcdef"),
    (b"Connection", b"close"),
    (b"Connection", b"keep-alive, Upgrade"),
    (b"Content-Encoding", b"gzip"),
    (b"Content-Length", b"7"),
    (b"Content-Type", b"text/plain"),
    (b"Cookie", b"a=b; c=d"),
    (b"Expect", b"100-continue"),
    (b"Forwarded", b"for=192.0.2.1;proto=https"),
    (b"Host", b"localhost"),
    (b"Idempotency-Key", b'"a-key"'),
    (b"Last-Event-ID", b"1.2.3"),
    (b"Origin", b"http://localhost"),
    (b"Prefer", b"respond-async, wait=0.01"),
    (b"Range", b"bytes=0-1"),
    (b"Sec-Fetch-Site", b"same-origin"),
    (b"TE", b"trailers"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Upgrade", b"h2c"),
    (b"X-Forwarded-For", b"192.0.2.1"),
    (b"X-Forwarded-Prefix", b"/skipper"),
    (b"X-Request-Id", b"an-id"),
    (b"X-Skipper-Delay", b"1h"),
    (b"X-Skipper-Expires", b"30s"),
    (b"X-Skipper-Priority", b"3"),
)
ODD_BYTES = (
    *(b"", b"\0", b"\r", b"\n", b"\r\n", b"\t", b" ", b"%", b"%00", b"%2e%2e/", b"\x7f", b"\xff"),
    *(b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x80\xae", b":", b";", b",", b'"', b"\\", b"/", b"?"),
    *(b"#", b"0", b"-1", b"+7", b"0x7", b"1e400", b"NaN", b"9" * 20, b"9" * 5000, b"a" * 9000),
)
JSON_BODIES: tuple[Any, ...] = (
    {"x": 1},
    {"x": 1, "y": -2},
    {"value": [1, 2.5, "three", None, True, {"four": []}]},
    {"house": {"rooms": 3, "area": 70.5}},
    {"items": [{"x": 1}, {"x": 2}]},
    {"text": "\u00e9\u4e2d\U0001f600\ud7ff"},
    {},
)
ODD_JSON = (
    *(b"NaN", b"-Infinity", b"1e400", b"-0", b"1" * 400, b"0.1e-400", b'"\\ud800"', b'"\\u0000"'),
    *(b"[" * 2000, b"[" * 300 + b"]" * 300, b'{"a":' * 300, b"\xef\xbb\xbf{}", b"{'x':1}", b"//"),
    *(b'{"x":1,"x":2}', b"01", b"1.", b".5", b"tru", b'"\x01"', b"\xff\xfe", b"[1,]", b" ", b"\0"),
)


_TASKS = ("01a2b3c4d5e6f708", "01a2b3c4d5e6f709")
_LISTS = (FrameKind.TAKE, FrameKind.TASKS, FrameKind.TASK_EVENTS)


class Request(NamedTuple):
    """A request before it is bytes. Its body may be in chunks; its headers have no framing."""

    method: bytes
    target: bytes
    version: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    is_chunked: bool


class Mutants:
    """An endless supply, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._edits: Sequence[Callable[[bytes], bytes]] = (
            self._flip,
            self._insert,
            self._cut_out,
            self._repeat,
            self._cut_off,
            self._exchange_number,
        )
        self._payloads: Sequence[tuple[int, Callable[[], bytes]]] = (
            (FrameKind.CALL, self._call),
            (FrameKind.CHECK, self._call),
            (FrameKind.REPLY, self._reply),
            (FrameKind.ITEM, self.json),
            (FrameKind.SERVED, lambda: b"c0de net@3"),
            (FrameKind.CANCEL, bytes),
            (FrameKind.CREDIT, self._credit),
            (FrameKind.ASK, self._question),
            (FrameKind.ANSWER, self._question),
            (FrameKind.REFUSED, lambda: b"the database cannot be reached"),
            (FrameKind.NUDGE, _TASKS[0].encode),
            *((kind, "\n".join(_TASKS).encode) for kind in _LISTS),
        )

    # --- requests

    def request(self, host: bytes = b"localhost") -> bytes:
        """One request, or what is left of it."""
        chance = self._random.random
        request = self._good_request(host)
        while chance() < 0.5:
            request = self._changed(request)
        data = self._rendered(request)
        while chance() < 0.35:
            data = self._edited(data)
        return data

    def segments(self, data: bytes) -> list[bytes]:
        """``data`` as it may arrive."""
        places = sorted(self._random.randrange(len(data) + 1) for _ in range(self._few()))
        return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]

    def _good_request(self, host: bytes) -> Request:
        target = self._random.choice(TARGETS)
        is_call = target.endswith(b"/invoke")
        headers = [(b"Host", host)]
        if is_call:
            headers.append((b"Content-Type", b"application/json"))
        body = self.json() if is_call else b""
        method = b"POST" if is_call else b"GET"
        is_chunked = is_call and self._random.random() < 0.4
        return Request(method, target, b"HTTP/1.1", headers, body, is_chunked)

    def _changed(self, request: Request) -> Request:
        """The request with one of its parts another one."""
        pick, what = self._random.choice, self._random.randrange(8)
        if what == 0:
            return request._replace(method=pick(METHODS))
        if what == 1:
            return request._replace(target=self._edited(request.target))
        if what == 2:
            return request._replace(
                version=pick((b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2", b"http/1.1"))
            )
        if what == 3:
            return request._replace(is_chunked=not request.is_chunked)
        if what == 4:
            return request._replace(body=self._edited(request.body))
        headers = list(request.headers)
        place = self._random.randrange(len(headers) + 1)
        name, value = pick(HEADERS)
        if what == 5:
            headers[place:place] = [(name, value)] * pick((1, 1, 1, 2, 120))
        elif what == 6:
            headers[place:place] = [(self._edited(name), value)]
        else:
            headers[place:place] = [(name, self._edited(value))]
        return request._replace(headers=headers)

    def _rendered(self, request: Request) -> bytes:
        lines = [b" ".join((request.method, request.target, request.version))]
        lines += [b": ".join(header) for header in request.headers]
        if request.is_chunked:
            lines.append(b"Transfer-Encoding: chunked")
            body = self._chunks(request.body)
        else:
            body = request.body
            if body or request.method == b"POST":
                lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join([*lines, b"", b""]) + body

    def _chunks(self, body: bytes) -> bytes:
        """``body`` in chunks, now and then with something wrong."""
        pieces = []
        for segment in self.segments(body):
            size = b"%x" % len(segment)
            end = b"\r\n"
            if self._random.random() < 0.05:
                size = self._edited(size)
            if self._random.random() < 0.05:
                size += b";" + self._edited(b"name=value")
            if self._random.random() < 0.03:
                end = self._random.choice(ODD_BYTES)
            pieces.append(size + b"\r\n" + segment + end)
        trailers = self._edited(b"Some: trailer\r\n") if self._random.random() < 0.1 else b""
        return b"".join(pieces) + b"0\r\n" + trailers + b"\r\n"

    # --- bodies

    def json(self) -> bytes:
        """A body, most of the time JSON that its function knows what to do with."""
        chance = self._random.random()
        if chance < 0.1:
            return self._random.choice(ODD_JSON)
        body = json.dumps(self._random.choice(JSON_BODIES)).encode()
        if chance < 0.3:
            place = self._random.randrange(len(body))
            return body[:place] + self._random.choice(ODD_JSON) + body[place + 1 :]
        return self._edited(body) if chance < 0.6 else body

    # --- frames

    def hello(self) -> bytes:
        """The introduction of a gateway."""
        return frames.pack(
            FrameKind.HELLO, 0, Hello(role="gateway", pid=1, protocol=PROTOCOL).to_json()
        )

    def frames(self, ids: int = 1000) -> bytes:
        """A few frames, or what is left of them; their ids are below ``ids``."""
        data = b"".join(self._frame(ids) for _ in range(1 + self._few()))
        while self._random.random() < 0.4:
            data = self._edited(data)
        return data

    def _frame(self, ids: int) -> bytes:
        kind, make = self._random.choice(self._payloads)
        payload = make()
        if self._random.random() < 0.5:
            payload = self._edited(payload)
        if self._random.random() < 0.05:
            kind = self._random.randrange(256)
        return frames.pack(kind, self._random.randrange(ids), payload)

    def _reply(self) -> bytes:
        if self._random.random() < 0.5:
            return problem(Outcome.FAILED, "ValueError: no", b"c0de", traceback="...")
        return reply(self._random.choice(list(Outcome)), b"c0de net@3", self.json())

    def _question(self) -> bytes:
        questions = (GetMetrics(), GetPoolState(), RenewModels(), CancelTask(task_id=_TASKS[0]))
        return self._random.choice(questions).to_json()

    def _credit(self) -> bytes:
        return frames.credit(self._random.randrange(1 << 20))

    def _call(self) -> bytes:
        name = self._random.choice(("bodies.add", "bodies.echo", "bodies.price", "nothing.here"))
        flags = self._random.choice((0, 0, 0, STREAM, 255))
        return call_head(CallHead(2000, flags, 0, name, "an-id")) + self.json()

    # --- edits of bytes

    def _few(self) -> int:
        return self._random.choice((0, 0, 1, 1, 2, 3, 7))

    def _edited(self, data: bytes) -> bytes:
        return self._random.choice(self._edits)(data)

    def _span(self, data: bytes) -> tuple[int, int]:
        start = self._random.randrange(len(data) + 1)
        return start, min(len(data), start + self._random.randrange(1, 12))

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        place = self._random.randrange(len(data))
        return data[:place] + bytes((self._random.randrange(256),)) + data[place + 1 :]

    def _insert(self, data: bytes) -> bytes:
        place = self._random.randrange(len(data) + 1)
        return data[:place] + self._random.choice(ODD_BYTES) + data[place:]

    def _cut_out(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:end] + data[start:end] * self._random.choice((1, 1, 2, 50)) + data[end:]

    def _cut_off(self, data: bytes) -> bytes:
        return data[: self._random.randrange(len(data) + 1)]

    def _exchange_number(self, data: bytes) -> bytes:
        """Another number in the place of the first one."""
        start = next((at for at, byte in enumerate(data) if 48 <= byte <= 57), len(data))
        end = start
        while end < len(data) and 48 <= data[end] <= 57:
            end += 1
        number = self._random.choice(
            (b"0", b"-1", b"4294967296", b"18446744073709551616", b"9" * 40)
        )
        return data[:start] + number + data[end:]
