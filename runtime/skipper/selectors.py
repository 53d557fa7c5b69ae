"""How a version of a model is asked for: ``boston``, ``boston@7``, ``boston@candidate``.

What is written is taken apart here and nowhere else; which version that is, the ledger tells.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from skipper.errors import DefinitionError

MAX_VERSION = 2**31 - 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_VERSION = re.compile(r"[1-9][0-9]{0,9}")


class Role(StrEnum):
    """What a version may be to its model. No alias of one's own is called so."""

    LATEST = "latest"
    """The newest that is not known to be unfit."""
    PRODUCTION = "production"
    PREVIOUS = "previous"
    """What was in production before."""
    CANDIDATE = "candidate"
    SHADOW = "shadow"


_ROLES = frozenset(role.value for role in Role)


@dataclass(frozen=True, slots=True)
class Selector:
    """A version of the model ``name``: by its number, by its role, or by an alias."""

    name: str
    at: int | Role | str = Role.PRODUCTION

    def __str__(self) -> str:
        """As it is written, in the shortest way."""
        return self.name if self.at == Role.PRODUCTION else f"{self.name}@{self.at}"

    @property
    def is_pinned(self) -> bool:
        """Whether it always means the same version."""
        return isinstance(self.at, int)


def parse(text: str) -> Selector:
    """Take ``NAME`` or ``NAME@VERSION`` apart. Raises :class:`DefinitionError`."""
    if not isinstance(text, str):
        check_name(text)
    name, sign, at = text.partition("@")
    check_name(name)
    return Selector(name, parse_at(at)) if sign else Selector(name)


def parse_at(text: str) -> int | Role | str:
    """What follows the ``@``. Raises :class:`DefinitionError`."""
    if _VERSION.fullmatch(text) and int(text) <= MAX_VERSION:
        return int(text)
    if text in _ROLES:
        return Role(text)
    if _ALIAS.fullmatch(text):
        return text
    raise DefinitionError(
        f"{text!r} names no version of a model: after '@' write a number from 1, one of "
        f"{', '.join(Role)}, or an alias: letters, digits, '.', '_' and '-', at most 63, beginning "
        "with a letter."
    )


def check_name(name: str) -> None:
    """Raise :class:`DefinitionError` unless ``name`` can name a model in URLs and files."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} cannot name a model: use letters, digits, '.', '_' and '-', at most 63, "
            "beginning with a letter or a digit."
        )


def check_alias(alias: str) -> None:
    """Raise :class:`DefinitionError` unless ``alias`` can be an alias of one's own."""
    if alias.lower() in _ROLES:
        raise DefinitionError(
            f"{alias!r} is no alias of one's own: {', '.join(Role)} say what a version is by "
            "itself; choose another word."
        )
    if not _ALIAS.fullmatch(alias):
        raise DefinitionError(
            f"{alias!r} cannot be an alias: use letters, digits, '.', '_' and '-', at most 63, "
            "beginning with a letter."
        )
