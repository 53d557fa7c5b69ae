"""Kinds of values that settings of several sections have, as annotations that check them."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator

PLAIN_NAME = r"[a-z0-9][a-z0-9_-]{0,39}"


def _check_plain(name: str) -> str:
    if not re.fullmatch(PLAIN_NAME, name):
        raise ValueError("use lower-case letters, digits, - and _, at most 40")
    return name


def _check_function(name: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)?", name):
        raise ValueError('name a file of functions, as boston, or a function, as "boston.train"')
    return name


def _check_json(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("write what JSON can say: no dates, no nan, no inf") from None
    return value


PlainName = Annotated[str, AfterValidator(_check_plain)]
"""What a user calls a table: ``ops`` in ``[webhooks.ops]``."""
FunctionName = Annotated[str, AfterValidator(_check_function)]
"""A function, or a file of functions: ``boston.train`` or ``boston``."""
JsonData = Annotated[Any, AfterValidator(_check_json)]
"""Whatever TOML and JSON have both."""
