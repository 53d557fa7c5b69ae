"""Which children the tree has, and in which order they start and stop. Pure."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from pathlib import Path

from skipper.errors import StartError
from skipper.exits import Exit
from skipper.settings.model import Settings

SETTINGS = "{settings}"
CONTROL = "{control}"
LISTEN = "{listen}"
LOCK = "{lock}"
"""These stand in a command for what is known at its start only: a file, and descriptors."""

# Stages of the start: what decides the time to the first answer goes before the rest.
FIRST, SERVING, REST = 0, 1, 2
# Levels of dependence; a drain goes from the highest down.
GUARD, BROKER, HOSTS, GATEWAY, SOURCES = 0, 1, 2, 3, 4


@dataclass(frozen=True, kw_only=True)
class ChildPlan:
    """One child of the launcher. Without ``probe`` it reports on its control channel once ready."""

    name: str
    command: tuple[str, ...]
    stage: int
    level: int
    probe: Path | None = None
    """A unix socket; the child is ready when something answers a PING there."""
    failure_code: int = Exit.FAILED
    """Exit code of the tree when this child cannot be started."""
    start_limit_s: float = 60.0
    """A child that is not ready by then is killed and started again."""
    is_marked: bool = True
    """Carries the tree's mark, by which the guard finds it and its descendants."""


def plan(
    settings: Settings, only: frozenset[str] | None = None, *, valkey: Path | None = None
) -> tuple[ChildPlan, ...]:
    """The children of this project's tree, or of the parts in ``only``, in the order of display.

    ``valkey`` is the embedded broker's server, needed only where the broker is embedded; that
    broker is part of every tree, since no other part does without one. Raises :class:`StartError`
    where ``only`` names no part, or parts that are of no use together.
    """
    parts = _check(only, settings) if only else frozenset(parts_of(settings))
    children = []
    if settings.broker_is_embedded:
        assert valkey is not None
        children.append(_broker(settings, valkey))
    if "gateway" in parts:
        children += [_gateway(name) for name in _gateway_names(settings.gateway.workers)]
    if "scheduler" in parts:
        children.append(_role("scheduler", "skipper.scheduler", stage=REST, level=SOURCES))
    pools = [pool for pool in settings.pools if f"pool:{pool}" in parts]
    for pool in pools:
        children += [_host(pool, is_first=pool == pools[0]), _consumer(pool)]
    return tuple(children)


def parts_of(settings: Settings) -> tuple[str, ...]:
    """What ``--only`` may name."""
    return ("broker", "gateway", "scheduler", *(f"pool:{pool}" for pool in settings.pools))


def guard(tree: str) -> ChildPlan:
    """The guard of ``tree``. It holds the project's lock too: no tree before this one is gone."""
    script = str(Path(__file__).with_name("guard.py"))
    return ChildPlan(
        name="guard",
        command=(sys.executable, "-I", "-S", script, tree, CONTROL, LOCK, SETTINGS),
        stage=FIRST,
        level=GUARD,
        is_marked=False,
    )


def _check(only: frozenset[str], settings: Settings) -> frozenset[str]:
    parts = parts_of(settings)
    for part in sorted(only - set(parts)):
        close = difflib.get_close_matches(part, parts, 1, 0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(parts)}."
        raise StartError(f"--only: the tree has no part {part!r}; {hint}", code=Exit.USAGE)
    pools = [part for part in parts if part.startswith("pool:")]
    if "gateway" in only and only.isdisjoint(pools):
        raise StartError(
            "--only: a gateway serves the functions of the pools beside it, and none is named; add "
            f"{', '.join(pools)} or {'both' if len(pools) == 2 else 'all'}, or leave gateway out.",
            code=Exit.USAGE,
        )
    return only


def _broker(settings: Settings, valkey: Path) -> ChildPlan:
    return ChildPlan(
        name="broker",
        command=(str(valkey), str(settings.run_dir / "valkey.conf")),
        stage=FIRST,
        level=BROKER,
        probe=settings.run_dir / "v.sock",
        failure_code=Exit.UNREACHABLE,
    )


def _gateway_names(workers: int) -> list[str]:
    return ["gateway"] if workers == 1 else [f"gateway-{n}" for n in range(1, workers + 1)]


def _gateway(name: str) -> ChildPlan:
    return _role(name, "skipper.gateway", "--listen", LISTEN, stage=SERVING, level=GATEWAY)


def _host(pool: str, *, is_first: bool) -> ChildPlan:
    stage = SERVING if is_first else REST  # most functions are in the default pool, the first
    return _role(pool, "skipper.pool", "--pool", pool, stage=stage, level=HOSTS)


def _consumer(pool: str) -> ChildPlan:
    name = f"{pool}-consumer"
    return _role(name, "skipper.consumer", "--pool", pool, stage=REST, level=SOURCES)


def _role(name: str, module: str, *more: str, stage: int, level: int) -> ChildPlan:
    # -P: a celery.py or random.py in the project's folder must not stand in for the real one
    command = (sys.executable, "-P", "-m", module, "--settings", SETTINGS, "--control", CONTROL)
    return ChildPlan(name=name, command=(*command, "--name", name, *more), stage=stage, level=level)
