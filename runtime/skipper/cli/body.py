"""The body of a call from ``-d`` and ``-p``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer


def request_body(data: str | None, params: Sequence[str]) -> bytes:
    """The JSON body: ``data`` (JSON, ``@file`` or ``-``), with ``params`` put into it.

    Raises :class:`typer.BadParameter`.
    """
    text = _text(data) if data is not None else "{}"
    value = _parsed(text, data)
    if not params:
        return text.encode()
    if not isinstance(value, dict):
        raise typer.BadParameter("-p adds members to an object, and -d is none; leave one of them.")
    for param in params:
        _put(value, param)
    return json.dumps(value, ensure_ascii=False).encode()


def _text(data: str) -> str:
    if data == "-":
        return sys.stdin.read()
    if not data.startswith("@"):
        return data
    try:
        return Path(data[1:]).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise typer.BadParameter(f"-d {data}: {reason}.") from None


def _parsed(text: str, data: str | None) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        shown = data if data and data.startswith(("@", "-")) else "-d"
        hint = " Quote it for the shell: -d '{\"rm\": 6.5}'." if shown == "-d" else ""
        raise typer.BadParameter(f"{shown} is not JSON: {error}.{hint}") from None


def _put(value: dict[str, Any], param: str) -> None:
    name, equals, text = param.partition("=")
    *path, last = name.split(".")
    if not equals or not all((*path, last)):
        raise typer.BadParameter(f"-p {param!r}: write NAME=VALUE, or OUTER.INNER=VALUE.")
    for key in path:
        value = value.setdefault(key, {})
        if not isinstance(value, dict):
            raise typer.BadParameter(f"-p {param!r}: {key!r} has a plain value already.")
    value[last] = _value(text)


def _value(text: str) -> Any:
    """JSON where it parses, else the text itself: ``6.5``, ``true``, ``[1,2]``, ``Vilnius``."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
