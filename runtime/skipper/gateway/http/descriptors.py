"""How many descriptors this process may have, and how many of them connections may take."""

from __future__ import annotations

import contextlib
import resource

RESERVED = 128
"""Of the process's descriptors, those for everything but connections: links, files, databases."""


def bound(connections: int) -> int:
    """How many of so many connections this process may have, once it has raised its limit.

    The limit is raised here and not in the launcher, since every process of the tree would inherit
    it: functions may use libraries that cannot do with descriptors beyond 1023 (``select``).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    wanted = connections + RESERVED
    if soft < wanted:
        aim = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (aim, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(connections, soft - RESERVED))
