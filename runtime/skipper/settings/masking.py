"""Secrets among the settings: how they are written down, and how they are shown.

A setting is a secret by its annotation alone: one of pydantic's secret types, :class:`SecretUrl`
among them. Nothing here, nor in ``repr`` or a message of a wrong setting, shows its value.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from skipper.settings.redaction import long_texts
from skipper.settings.urls import SECRET_MASK, masked_url, secrets_in

SECRET_TYPES = (Secret, SecretStr, SecretBytes)
_SHORTEST = 4
"""Shorter texts guard nothing, and would blot out parts of the text around them."""


class SecretUrl(SecretStr):
    """A URL that may hold a password; the rest of it is shown."""

    @property
    def shown(self) -> str:
        """The URL, or the word in its place, as anybody may see it."""
        return masked_url(self.get_secret_value())

    @property
    def pieces(self) -> Iterator[str]:
        """What of it is secret by itself."""
        return secrets_in(self.get_secret_value())


def masked(value: Any) -> Any:
    """``value`` as JSON data, with the secrets in it masked: URLs in their passwords only."""
    if isinstance(value, SecretUrl):
        return value.shown
    if isinstance(value, SECRET_TYPES):
        return SECRET_MASK
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value


def in_clear(value: Any) -> Any:
    """Settings as JSON data with their secrets in clear, for the process that needs them."""
    if isinstance(value, SECRET_TYPES):
        return in_clear(value.get_secret_value())
    if isinstance(value, BaseModel):
        return {name: in_clear(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {name: in_clear(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_clear(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def secrets_of(value: Any) -> Iterator[str]:
    """What is secret in a part of the settings, to be looked for in texts of other origin."""
    match value:
        case SecretUrl():
            yield from value.pieces
        case SecretStr():
            yield value.get_secret_value()
        case Secret():  # a plugin's, who may also mean a folder or a number of rows
            yield from long_texts(value.get_secret_value())
        case BaseModel():
            for name in type(value).model_fields:
                yield from secrets_of(getattr(value, name))
        case dict():
            for item in value.values():
                yield from secrets_of(item)
        case list() | tuple():
            for item in value:
                yield from secrets_of(item)


def without_values(text: str, values: Any) -> str:
    """``text`` with every text and number in ``values``, JSON data, masked wherever it stands.

    For a text that comes from elsewhere, such as a validator's, and may repeat what it is about.
    """
    for found in sorted(set(_texts(values)), key=len, reverse=True):
        text = text.replace(found, SECRET_MASK)
    return text


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, dict):
        for item in values.values():
            yield from _texts(item)
    elif isinstance(values, list | tuple):
        for item in values:
            yield from _texts(item)
    elif len(str(values)) >= _SHORTEST and not isinstance(values, bool | None):
        yield str(values)
