"""What is told of a value that is no JSON: its media type and its file's name, which others chose.

A function's author, or whoever sent the file that it hands on, may have named it anything. No such
word ends a header, is a path, or has a browser run what it is sent.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from urllib.parse import quote

from skipper.values.file import OCTETS
from skipper.values.types import matches

MAX_NAME = 200
"""Characters of a file's name that are kept: file systems take no more than 255 bytes."""
_PART = r"[!#$&\-^_.+0-9a-z]{1,100}"
_MEDIA_TYPE = re.compile(rf"({_PART})/({_PART})")
_CHARSET = re.compile(r"charset=\"?([0-9A-Za-z_\-]{1,40})\"?", re.IGNORECASE)
_SHOWN = ("image", "audio", "video", "font")
"""Kinds that browsers show and do not run, but for those of :data:`_RUNS`."""
_SHOWN_TYPES = frozenset({OCTETS, "application/json", "text/plain", "text/csv"})
_RUNS = ("xml", "svg", "html", "script")
_BY_SUFFIX = {
    ".npy": "application/x-npy",
    ".arrow": "application/vnd.apache.arrow.file",
    ".arrows": "application/vnd.apache.arrow.stream",
    ".parquet": "application/vnd.apache.parquet",
    ".webp": "image/webp",
}
"""What not every system's table has."""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\"\\/:*?<>|\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ASCII = re.compile(r"[^A-Za-z0-9 !#$&'()+,\-.=@\[\]^_{}~]")


def media_type_of(text: str) -> str:
    """A media type that can be sent, in lower case; bytes of no known one for what is none."""
    bare, _, parameters = text.partition(";")
    bare = bare.strip().lower()
    if not _MEDIA_TYPE.fullmatch(bare):
        return OCTETS
    charset = _CHARSET.fullmatch(parameters.strip()) if bare.startswith("text/") else None
    return f"{bare}; charset={charset[1].lower()}" if charset else bare


def file_name(text: str | None) -> str:
    """A file's name that no system takes for a path or for a command; may be empty."""
    if not text:
        return ""
    last = re.split(r"[/\\]", text)[-1]
    name = _UNSAFE.sub("_", last).strip(" .")
    return name.encode("utf-8", "replace").decode()[:MAX_NAME]


def is_shown(media_type: str) -> bool:
    """Whether a browser may show it where it is; whatever it might run is to be saved instead."""
    bare = media_type.partition(";")[0]
    kind = bare.partition("/")[0]
    if any(word in bare for word in _RUNS):
        return False
    return kind in _SHOWN or bare in _SHOWN_TYPES


def disposition(media_type: str, name: str | None) -> str | None:
    """The Content-Disposition of a value; None where there is nothing to say.

    RFC 6266: the name in ASCII, and where that is not all of it also as it is (RFC 8187).
    """
    safe, is_inline = file_name(name), is_shown(media_type)
    kind = "inline" if is_inline else "attachment"
    if not safe:
        return None if is_inline else kind
    plain = _ASCII.sub("_", safe)
    line = f'{kind}; filename="{plain}"'
    return line if plain == safe else f"{line}; filename*=UTF-8''{quote(safe, safe='')}"


def told_by_name(media_type: str, name: str | None, reads: Sequence[str]) -> str:
    """The media type of what a client has sent as nothing in particular: its name may tell one.

    Only one of ``reads`` is believed, which is what its parameter is read from.
    """
    if media_type not in ("", OCTETS) or not name:
        return media_type or OCTETS
    suffix = "." + name.rpartition(".")[2].lower()
    guessed = _BY_SUFFIX.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0]
    return guessed if guessed and matches(guessed, reads) else OCTETS
