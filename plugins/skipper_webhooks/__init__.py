"""Webhooks for Skipper: other servers are notified of ended tasks, with signed requests.

Which ends, and to whom, stands in the project's ``[webhooks.NAME]`` tables; the scheduler makes a
task of each delivery, and :mod:`skipper_webhooks.webhooks` runs it. Receivers use :func:`verify`.
This module holds the hooks and imports no HTTP library: every instance loads it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import skipper
from skipper_webhooks.endpoint import Endpoint
from skipper_webhooks.signing import SignatureError, verify

__all__ = ["SignatureError", "verify"]

SOURCE = "webhooks"
"""The source of the function that delivers, and the table of settings that it is given."""
configured: dict[str, Endpoint] = {}
"""The project's webhooks by name, in an instance that delivers; in all others none."""


@skipper.hook
def skipper_sources(project: skipper.Project) -> Collection[skipper.Source]:
    """Name the function that delivers, in a project that has webhooks."""
    if SOURCE not in project.set_up:
        return ()
    file = Path(__file__).with_name("webhooks.py")
    module = "skipper_webhooks.webhooks"
    return (skipper.Source(name=SOURCE, file=file, module=module, origin="webhooks"),)


@skipper.hook
def skipper_settings(source: str, settings: Mapping[str, Any]) -> None:
    """Take the webhooks, with their secrets."""
    if source == SOURCE:
        configured.update(
            {name: Endpoint.model_validate(table) for name, table in settings.items()}
        )
