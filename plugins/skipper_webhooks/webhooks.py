"""``webhooks._deliver``: sends one event to one webhook.

Private, for whoever could call it could have anything signed: the runtime alone does, through tasks
whose attempts and deadlines it sets itself.
"""

from __future__ import annotations

from typing_extensions import TypedDict

import skipper
import skipper_webhooks
from skipper_webhooks.errors import DeliveryError, RefusedError

ATTEMPTS = 40
"""For whoever looks at the function; the runtime gives its deliveries as many by itself."""


class Receipt(TypedDict):
    """What the receiver answered."""

    status: int


@skipper.data(mode="task", retries=ATTEMPTS - 1, retry_on=DeliveryError)
def _deliver(webhook: str, id: str, event: str) -> Receipt:
    """Post an event to a webhook, signed.

    ``id`` is the same each time this event is sent, and ``event`` the request's body.
    """
    from skipper_webhooks.posting import post  # brings an HTTP library, for those who deliver

    if webhook not in skipper_webhooks.configured:
        raise RefusedError(f"skipper.toml has no [webhooks.{webhook}] any more")
    return {"status": post(skipper_webhooks.configured[webhook], id, event.encode())}
