"""What a webhook is: where the ends of tasks are sent, and which of them.

How its events are made into tasks stands in ``deliveries``; how one is sent, in a plugin.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from skipper.settings.masking import SecretUrl
from skipper.settings.redaction import long_texts
from skipper.settings.urls import SECRET_MASK
from skipper.task import TERMINAL, State

SOURCE = "webhooks"
"""The source of the function that delivers; its table of settings holds the webhooks."""
DELIVER = f"{SOURCE}._deliver"
"""The function that delivers one event, offered by the shipped plugin of that name."""

ATTEMPTS = 40
"""Of one delivery. What the pauses between them come to stands in docs/webhooks.md."""


class ReceiverUrl(SecretUrl):
    """Where events are posted. What follows the host may be a secret of the receiver's."""

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        url = urlsplit(self.get_secret_value())
        return f"{url.scheme}://{url.netloc}"

    @property
    def shown(self) -> str:
        return f"{self.origin}/{SECRET_MASK}"

    @property
    def pieces(self) -> Iterator[str]:
        """What follows the host, whole and by its parts."""
        beyond = self.get_secret_value().removeprefix(self.origin)
        yield beyond
        yield from long_texts(re.split("[/?&=]", beyond))


class Webhook(BaseModel):
    """The settings of one webhook."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: ReceiverUrl = Field(
        description="where events are posted: https://…; http://… to private addresses alone"
    )
    secret: SecretStr = Field(
        description="what they are signed with: whsec_ and 24 to 64 random bytes in base64"
    )
    events: tuple[State, ...] = Field(
        TERMINAL, min_length=1, description="ends to tell of, such as failed and crashed"
    )
    functions: tuple[str, ...] = Field(
        ("*",), min_length=1, description="functions to tell of, such as boston.*"
    )
    allow_private: bool = Field(
        False, description="whether the URL may lead to this machine or a private network"
    )
    timeout_s: float = Field(
        10.0, ge=0.1, le=60, description="how long the receiver may take, seconds"
    )

    @field_validator("url")
    @classmethod
    def _has_a_host(cls, value: ReceiverUrl) -> ReceiverUrl:
        try:
            url = urlsplit(value.get_secret_value())
            host = url.hostname or ""
            is_url = url.scheme in ("https", "http") and bool(host) and url.port != 0
        except ValueError:
            is_url = False
        if not is_url:
            raise ValueError("write a URL that begins with https://")
        if unicodedata.normalize("NFKC", host) != host:  # ①②⑦.⓪.⓪.① is 127.0.0.1 to some
            raise ValueError("write its host in plain letters and digits")
        if url.username is not None or url.fragment:
            raise ValueError("write it without user, password and fragment: events are signed")
        return value

    @field_validator("secret")
    @classmethod
    def _is_long_enough(cls, value: SecretStr) -> SecretStr:
        prefix, _, text = value.get_secret_value().partition("_")
        try:
            size = len(base64.b64decode(text, validate=True))
        except ValueError:
            size = 0
        if prefix != "whsec" or not 24 <= size <= 64:
            raise ValueError(
                'write whsec_ and 24 to 64 bytes in base64: "whsec_$(openssl rand -base64 32)"'
            )
        return value

    @field_validator("events")
    @classmethod
    def _are_ends(cls, value: tuple[State, ...]) -> tuple[State, ...]:
        for state in value:
            if not state.is_terminal:
                raise ValueError(f"{state} is no end of a task; ends are {', '.join(TERMINAL)}")
        return value

    @property
    def is_encrypted(self) -> bool:
        return self.url.origin.startswith("https:")

    def wants(self, function: str, state: str) -> bool:
        """Whether it is notified of a task of ``function`` that ended in ``state``."""
        return state in self.events and any(
            fnmatchcase(function, pattern) for pattern in self.functions
        )


def interest_in(webhooks: Mapping[str, Webhook]) -> Callable[[str, str], bool] | None:
    """Whether any webhook is notified of a function's task that ended so, to call; None: never."""
    if not webhooks:
        return None
    return lambda function, state: bool(audience(webhooks, function, state))


def audience(webhooks: Mapping[str, Webhook], function: str, state: str) -> list[str]:
    """Names of the webhooks that are notified of a task of ``function`` that ended in ``state``."""
    if function == DELIVER:  # or a receiver that is down would be notified of just that, for ever
        return []
    return [name for name, webhook in webhooks.items() if webhook.wants(function, state)]
