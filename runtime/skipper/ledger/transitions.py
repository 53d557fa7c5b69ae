"""The steps from one deployment record to the next. Pure: who writes a record is ``deployments``.

Every step that changes what is in production makes what was there until then the previous one, so
that one can always go back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from skipper import selectors
from skipper.errors import DefinitionError, DeploymentError
from skipper.ledger.records import Deployment

MAX_ALIASES = 100
SETTABLE = frozenset({"production", "candidate", "percent", "shadow", "aliases"})
"""Members of a record that whoever changes it may give."""

Step: TypeAlias = Callable[[Deployment], Deployment]
"""From the record that holds to the one that shall. Raises :class:`DeploymentError`."""


def undeployed(name: str) -> Deployment:
    """What stands for a model of which no version has served yet."""
    return Deployment(name=name)


def promoted(held: Deployment, version: int) -> Deployment:
    """Every caller is answered by ``version``. A candidate, whichever it was, is one no more."""
    return replace(_in_production(held, version), candidate=None, percent=0.0)


def rolled_back(held: Deployment) -> Deployment:
    """Every caller is answered by what was in production before."""
    if held.previous is None:
        raise DeploymentError(
            f"nothing was in production of {held.name!r} before "
            f"{_shown(held.production)}: there is nothing to go back to"
        )
    return promoted(held, held.previous)


def with_candidate(held: Deployment, version: int, percent: float) -> Deployment:
    """``percent`` of the keys of calls are answered by ``version``, the others as they were."""
    if held.production is None:
        raise DeploymentError(
            f"nothing of {held.name!r} is in production, which a candidate could stand beside: "
            f"promote version {version} without percent"
        )
    if version == held.production:
        raise DeploymentError(f"version {version} of {held.name!r} is in production already")
    if not 0 <= percent <= 100:  # NaN is not, either
        raise DeploymentError(f"percent is {percent:g}; give it from 0 to 100")
    return replace(held, candidate=version, percent=float(percent))


def without_candidate(held: Deployment) -> Deployment:
    """Every caller is answered by what is in production."""
    return replace(held, candidate=None, percent=0.0)


def shadowed(held: Deployment, version: int | None) -> Deployment:
    """``version`` is the shadow: it answers no caller. None where it is None."""
    if version is not None and version == held.production:
        raise DeploymentError(f"version {version} of {held.name!r} is in production already")
    return replace(held, shadow=version)


def aliased(held: Deployment, alias: str, version: int) -> Deployment:
    """``alias`` is a name of ``version``, and of no other."""
    return _with_aliases(held, held.aliases | {alias: version})


def unaliased(held: Deployment, alias: str) -> Deployment:
    """``alias`` names nothing."""
    if alias not in held.aliases:
        raise DeploymentError(f"{held.name!r} has no alias {alias!r}")
    return replace(held, aliases={k: v for k, v in held.aliases.items() if k != alias})


def changed(held: Deployment, given: Mapping[str, Any]) -> Deployment:
    """The record with the ``given`` ones of its :data:`SETTABLE` members, all others as they are.

    A candidate without ``percent`` has that of the one before it; one that is None ends.
    """
    made = held
    production = given.get("production", held.production)
    if production is None and held.production is not None:
        raise DeploymentError(
            f"something of {held.name!r} is in production: promote another version, or roll back"
        )
    if production is not None:
        made = _in_production(held, production)
    candidate, percent = given.get("candidate", made.candidate), given.get("percent", made.percent)
    if candidate is not None:
        made = with_candidate(made, candidate, percent)
    elif given.get("percent"):
        raise DeploymentError("percent is of a candidate: name one")
    else:
        made = without_candidate(made)
    made = shadowed(made, given.get("shadow", made.shadow))
    return _with_aliases(made, given.get("aliases", made.aliases))


def _in_production(held: Deployment, version: int) -> Deployment:
    if version == held.production:
        return held
    shadow = None if held.shadow == version else held.shadow
    candidate = None if held.candidate == version else held.candidate
    return replace(
        held,
        production=version,
        previous=held.production,
        candidate=candidate,
        percent=0.0 if candidate is None else held.percent,
        shadow=shadow,
    )


def _with_aliases(held: Deployment, aliases: Mapping[str, int]) -> Deployment:
    for alias in aliases:
        try:
            selectors.check_alias(alias)
        except DefinitionError as error:
            raise DeploymentError(str(error)) from None
    if len(aliases) > MAX_ALIASES:
        raise DeploymentError(f"{held.name!r} would have {len(aliases)} aliases; {MAX_ALIASES} may")
    return replace(held, aliases=dict(aliases))


def _shown(version: int | None) -> str:
    return "its first version" if version is None else f"version {version}"
