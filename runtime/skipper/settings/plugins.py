"""``[plugins.NAME]``: settings of a plugin, which it alone understands and checks, in an instance.

To all else the values are secrets: none is shown, and only instances of that plugin get them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Secret

from skipper.settings.annotations import JsonData
from skipper.settings.webhooks import SOURCE as WEBHOOKS

_NAME = r"[A-Za-z0-9_-]{1,40}"


def _check_name(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise ValueError("use letters, digits, - and _, at most 40")
    if name == WEBHOOKS:
        raise ValueError(f"these have tables of their own: write [{WEBHOOKS}.NAME]")
    return name


PluginName = Annotated[str, AfterValidator(_check_name)]
"""An entry point's name, or that of a file in ``plugins/``."""
PluginValues: TypeAlias = dict[str, Secret[JsonData]]


@dataclass(frozen=True, kw_only=True)
class PluginTable:
    """What ``skipper.toml`` holds for one plugin, on its way to the plugin."""

    title: str
    """What the table is called there: ``plugins.tabular``, or ``webhooks``."""
    values: dict[str, Any] = field(repr=False)
    """JSON data, secrets in clear."""
