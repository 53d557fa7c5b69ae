"""Models as callers see them: a version, and the record of which of them serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from skipper.blobs import StoredFile
from skipper.ledger.records import Deployment, ModelVersion
from skipper.tasks.documents import timestamp


def version_document(version: ModelVersion) -> dict[str, Any]:
    """A version, as lists have it. One that was imported has an origin in place of a task."""
    document = asdict(version)
    del document["seq"]
    made = {"task_id": version.task_id or None, "created_at": timestamp(version.created_at)}
    return document | made


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What is stored of a version: its files, and the libraries that it was made with."""

    files: Sequence[StoredFile]
    libraries: Mapping[str, str]


def shown_version(version: ModelVersion, held: Deployment, stored: Stored | None) -> dict[str, Any]:
    """A version with what it is to its model, and what is stored of it, where it can be read."""
    roles = {"production": held.production, "previous": held.previous}
    roles |= {"candidate": held.candidate, "shadow": held.shadow}
    return version_document(version) | {
        "roles": [role for role, each in roles.items() if each == version.version],
        "aliases": [alias for alias, each in held.aliases.items() if each == version.version],
        "libraries": dict(stored.libraries) if stored else None,
        "files": [_file(each) for each in stored.files] if stored else None,
    }


def _file(file: StoredFile) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "sha256": file.digest}


def deployment_document(record: Deployment) -> dict[str, Any]:
    """A deployment record."""
    document = asdict(record)
    del document["seq"]
    return document | {"at": timestamp(record.at) if record.revision else None}
