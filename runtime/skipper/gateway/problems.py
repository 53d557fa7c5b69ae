"""Problems as answers to requests. Which there are stands in ``skipper.problems``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from skipper.outcomes import problem_of
from skipper.problems import ProblemKind, document

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = "1"


@dataclass(eq=False)  # not frozen: whoever handles it clears its traceback
class Problem(Exception):  # noqa: N818 - the RFC's word
    """A request that ends in a problem document."""

    kind: ProblemKind
    detail: str
    members: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return document(self.kind, self.detail, self.members)

    def response(self) -> Response:
        headers = dict(self.headers)
        if self.kind.status == 503:
            headers.setdefault("Retry-After", RETRY_AFTER_S)
        return Response(json.dumps(self.document()), self.kind.status, headers, MEDIA_TYPE)


def from_outcome(outcome: int, body: bytes, *, with_traceback: bool, **members: Any) -> Problem:
    """The problem that a reply stands for; ``body`` holds its own members."""
    kind, detail, more = problem_of(outcome, json.loads(body), with_traceback=with_traceback)
    wait_s = more.pop("retry_after_s", None)
    headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
    return Problem(kind, detail, members | more, headers)
