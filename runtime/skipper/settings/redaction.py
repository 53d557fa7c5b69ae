"""Secrets taken out of texts of other origin, wherever they stand: logs, reasons, tracebacks.

The settings' own messages hold none. This is for what libraries and functions write: it takes out
what a process knows to be secret, as it is written, as it is meant, and as JSON has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from skipper.settings.urls import SECRET_MASK

_SHORTEST = 8
"""What is shorter guards little, and may be a word of any sentence."""
_LONG = 16


class Redactor:
    """Puts a mask in the place of each of these secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        """``text`` without them."""
        return self._pattern.sub(SECRET_MASK, text) if self._pattern else text

    def of_data(self, value: Any) -> Any:
        """JSON data without them in any of its texts."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {key: self.of_data(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.of_data(item) for item in value]
        return value


def long_texts(value: Any) -> Iterator[str]:
    """The texts in JSON data that are too long to be words: what in it can be a secret."""
    if isinstance(value, str):
        if len(value) >= _LONG:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from long_texts(item)
    elif isinstance(value, Iterable):
        for item in value:
            yield from long_texts(item)


def _forms(secret: str) -> Iterator[str]:
    if len(secret) >= _SHORTEST or (len(secret) >= _SHORTEST - 2 and not secret.isalpha()):
        yield from {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}
