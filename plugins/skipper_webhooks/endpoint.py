"""Where events are posted, as far as whoever posts them must know it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, SecretStr


class Endpoint(BaseModel):
    """One ``[webhooks.NAME]`` table; which ends go there is the runtime's business.

    The runtime has checked the table before it hands it over, with every default filled in.
    """

    model_config = ConfigDict(frozen=True)

    url: SecretStr
    secret: SecretStr
    allow_private: bool
    timeout_s: float
