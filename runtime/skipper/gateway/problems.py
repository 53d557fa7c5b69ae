"""What went wrong with a request, as data that every face renders in its own way. Knows no HTTP.

Which problems there are stands in :mod:`skipper.problems`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from skipper.outcomes import problem_of
from skipper.problems import ProblemKind, document


@dataclass(eq=False)  # not frozen, because whoever handles an exception clears its traceback
class Problem(Exception):  # noqa: N818 - the RFC's word
    """A request that ends in a problem document.

    ``retry_after_s`` is how soon it may succeed, in seconds, where that is known; ``served`` is
    what served a call that failed (:func:`~skipper.wire.calls.served_by`).
    """

    kind: ProblemKind
    detail: str
    members: dict[str, Any] = field(default_factory=dict)
    retry_after_s: float | None = None
    served: bytes = b""

    def document(self) -> dict[str, Any]:
        """The problem document (RFC 9457)."""
        return document(self.kind, self.detail, self.members)


def from_outcome(
    outcome: int, body: bytes, *, served: bytes = b"", with_traceback: bool, **members: Any
) -> Problem:
    """The problem of a reply that has no value; ``body`` is the JSON of its own members."""
    kind, detail, own = problem_of(outcome, json.loads(body), with_traceback=with_traceback)
    retry_after_s = own.pop("retry_after_s", None)
    return Problem(kind, detail, members | own, retry_after_s, served)
