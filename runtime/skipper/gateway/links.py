"""Links in answers: paths below the prefix under which the caller of this request sees the gateway.

They are never whole addresses: who resolves one against what it asked is right behind any proxy.
"""

from __future__ import annotations

from contextvars import ContextVar

_prefix: ContextVar[str] = ContextVar("prefix", default="")


def below(prefix: str) -> None:
    """Have the links of the answer to the present request begin with ``prefix``, such as ``/ml``.

    A variable of the request's own task, because links stand deep in documents.
    """
    _prefix.set(prefix)


def link(path: str) -> str:
    """``path``, a path of the gateway's own, as the caller of the present request reaches it."""
    return _prefix.get() + path
