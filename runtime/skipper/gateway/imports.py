"""A version of a model in one file: what is known of it, and how it is taken out of there.

Whoever sends such a file may have forged all of it. It is believed only where it agrees with
itself: the members are those that its manifest names, in that order, each of its size and hash.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from skipper.errors import FormatError
from skipper.gateway.unpacking import MOST_NAME, TarReader
from skipper.settings.models import ModelName

MANIFEST = "skipper-model.json"
"""What is known of a version, the first file of its archive."""
FILES = "files/"
"""Below which its archive holds what the format's plugin has written."""
LAYOUT = 1
"""Of the archive: a reader refuses any other."""
MOST_MANIFEST = 4 << 20
MOST_FILES = 10_000
MOST_LEVELS = 32
"""Of what is nested in metrics and parameters: so much can be written again from anywhere."""


def _check_path(path: str) -> str:
    """Raise ValueError for what is not plainly below a folder, as it is written."""
    is_plain = path.isprintable() and len(path.encode()) <= MOST_NAME - len(FILES)
    if not is_plain or path != str(PurePosixPath(path)) or path == ".":
        raise ValueError(f"{path[:200]!r} is no plain path")
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path[:200]!r} leads out of the model")
    return path


def _check_levels(value: Any, levels: int = MOST_LEVELS) -> Any:
    inner: Iterable[Any] = ()
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        if not levels:
            raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep")
    for each in inner:
        _check_levels(each, levels - 1)
    return value


_Word = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
_Text = Annotated[str, Field(max_length=10_000)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Path = Annotated[str, AfterValidator(_check_path)]
_Figures = Annotated[dict[str, JsonValue], AfterValidator(_check_levels)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ManifestFile(_Strict):
    """One file of a version; ``size`` is in bytes."""

    path: _Path
    size: Annotated[int, Field(ge=0)]
    sha256: _Digest


class Manifest(_Strict):
    """What an archive says of its version: what is shown of one, and the layout."""

    layout: int
    name: ModelName
    version: Annotated[int, Field(ge=1)]
    digest: _Digest
    format: _Word
    metrics: _Figures | None
    params: _Figures | None
    code: _Word | None
    task_id: _Word | None
    function: _Word
    created_at: _Word
    size: Annotated[int, Field(ge=0)] | None
    state: _Word
    reason: _Text | None
    gate: _Figures | None
    origin: _Figures | None
    roles: list[_Word]
    aliases: list[_Word]
    libraries: dict[_Word, _Word]
    files: Annotated[list[ManifestFile], Field(min_length=1, max_length=MOST_FILES)]


def unpack(stream: BinaryIO, folder: Path) -> Manifest:
    """Write the files of an archive into ``folder``, which is empty; what it says of them.

    Raises FormatError for what is not such a file, or not whole, and OSError.
    """
    tar = TarReader(stream)
    manifest = _manifest(tar)
    _check_places(manifest.files)
    for file in manifest.files:
        if (member := tar.next()) != (FILES + file.path, file.size):
            found = "its end" if member is None else f"{member.name[:200]!r}, {member.size} bytes"
            named = f"{FILES + file.path!r}, {file.size} bytes"
            raise FormatError(f"where its manifest names {named}, there is {found}")
        assert member is not None
        _write(folder / file.path, tar.content(member), file)
    if (more := tar.next()) is not None:
        raise FormatError(f"{more.name[:200]!r} in it is not in its manifest")
    return manifest


def _manifest(tar: TarReader) -> Manifest:
    member = tar.next()
    if member is None or member.name != MANIFEST:
        raise FormatError(f"it does not begin with {MANIFEST}: no `skipper models export` wrote it")
    if member.size > MOST_MANIFEST:
        raise FormatError(f"its {MANIFEST} has more than {MOST_MANIFEST >> 20} MiB")
    try:
        document = _read(b"".join(tar.content(member)))
        layout = document.get("layout") if isinstance(document, dict) else None
        if layout != LAYOUT or isinstance(layout, bool):
            raise FormatError(f"its layout is {str(layout)[:20]}; this Skipper reads {LAYOUT}")
        return Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise FormatError(f"its {MANIFEST} is wrong at {where[:200]}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"its {MANIFEST} cannot be read: {error}") from None


def _read(text: bytes) -> Any:
    """JSON in which each number is one."""
    return json.loads(text, parse_constant=_refused, parse_float=_finite)


def _refused(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    return number if math.isfinite(number := float(text)) else _refused(text[:20])


def _check_places(files: Iterable[ManifestFile]) -> None:
    """Raise FormatError where two files would be one, or one the folder of another."""
    paths = [file.path for file in files]
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    twice = len({*paths}) < len(paths)
    if twice or folders & {*paths}:
        raise FormatError("its manifest has two files at one place")


def _write(path: Path, content: Iterator[bytes], file: ManifestFile) -> None:
    digest = hashlib.sha256()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("xb") as target:
        for piece in content:
            digest.update(piece)
            target.write(piece)
    if digest.hexdigest() != file.sha256:
        raise FormatError(f"the content of {file.path!r} is not what its manifest says")
