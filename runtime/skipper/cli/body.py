"""The body of a call from ``-d``, ``-p`` and ``-F``."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from skipper.values import forms

if TYPE_CHECKING:
    from skipper.client.sources import BodySource

_TYPE = ";type="


def request_body(
    data: str | None,
    params: Sequence[str],
    files: Sequence[str] = (),
    schema: forms.Schema | None = None,
) -> Any:
    """The body: ``data`` (JSON, ``@file`` or ``-``), with ``params`` and ``files`` put into it.

    What a text stands for is decided by ``schema``, the function's; where it says nothing, a text
    is JSON if it can be. Bytes are JSON as it was given. Raises :class:`typer.BadParameter`.
    """
    _check_standard_input(data, (*params, *files))
    text = _text(data) if data is not None else "{}"
    value = _parsed(text, data)
    if not params and not files:
        return text.encode()
    if not isinstance(value, dict):
        raise typer.BadParameter("-p adds members to an object, and -d is none; leave one of them.")
    for (flag, name), texts in _by_name(params, files).items():
        _put(value, flag, name, texts, schema or {})
    return value


def _check_standard_input(data: str | None, given: Sequence[str]) -> None:
    named = [each.partition("=")[2].partition(_TYPE)[0] for each in given]
    if named.count("@-") + (data == "-") > 1:
        raise typer.BadParameter("standard input can be read once; name files for the rest.")


def _by_name(params: Sequence[str], files: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for flag, given in (("-p", params), ("-F", files)):
        for each in given:
            name, equals, text = each.partition("=")
            if not equals or not all(name.split(".")):
                raise typer.BadParameter(
                    f"{flag} {each!r}: write NAME=VALUE, or OUTER.INNER=VALUE."
                )
            found.setdefault((flag, name), []).append(text)
    return found


def _text(data: str) -> str:
    if data == "-":
        return sys.stdin.read()
    if not data.startswith("@"):
        return data
    try:
        return Path(data[1:]).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (
            error.strerror
            if isinstance(error, OSError)
            else "not UTF-8, so no JSON; `-F NAME=@FILE` sends a file as it is"
        )
        raise typer.BadParameter(f"-d {data}: {reason}.") from None


def _parsed(text: str, data: str | None) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        shown = data if data and data.startswith(("@", "-")) else "-d"
        hint = " Quote it for the shell: -d '{\"rm\": 6.5}'." if shown == "-d" else ""
        raise typer.BadParameter(f"{shown} is not JSON: {error}.{hint}") from None


def _put(
    value: dict[str, Any], flag: str, name: str, texts: Sequence[str], schema: forms.Schema
) -> None:
    *path, last = name.split(".")
    for key in path:
        schema = forms.member_schema(schema, key)
        value = value.setdefault(key, {})
        if not isinstance(value, dict):
            shown = f"{flag} {name}={texts[0]}"
            raise typer.BadParameter(f"{shown!r}: {key!r} has a plain value already.")
    member = forms.member_schema(schema, last)
    try:
        value[last] = _value(member, texts, is_file=flag == "-F")
    except ValueError as error:
        raise typer.BadParameter(f"{flag} {name}: {error}.") from None
    except OSError as error:
        raise typer.BadParameter(f"{flag} {name}={texts[0]}: {error.strerror or error}.") from None


def _value(schema: forms.Schema, texts: Sequence[str], *, is_file: bool) -> Any:
    item = forms.item_schema(schema) if forms.is_list(schema, schema) else {}
    takes_files = is_file or forms.takes_file(schema) or forms.takes_file(item)
    if takes_files and any(text.startswith("@") for text in texts):
        values = [_file(t) if t.startswith("@") else forms.from_text(item, [t]) for t in texts]
        is_many = len(values) > 1 or (forms.takes_file(item) and not forms.takes_file(schema))
        return values if is_many else values[0]
    if forms.is_free(schema):
        return _guessed(texts[-1])
    return forms.from_text(schema, texts)


def _file(text: str) -> BodySource:
    """What ``@PATH``, ``@-`` or ``@PATH;type=TYPE`` names."""
    from skipper.client.sources import file_source

    name, _, media_type = text[1:].partition(_TYPE)
    if name == "-":
        stream = getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())
        return file_source(stream, None, media_type or None)
    path = Path(name).expanduser()
    if path.is_dir():
        raise ValueError(f"{name} is a directory")
    if not path.exists():
        raise ValueError(f"{name}: No such file or directory")
    return file_source(path if path.is_file() else path.open("rb"), None, media_type or None)


def _guessed(text: str) -> Any:
    """JSON where it parses, else the text itself: ``6.5``, ``true``, ``[1,2]``, ``Vilnius``."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
