"""How a delivery goes wrong."""

from __future__ import annotations


class DeliveryError(Exception):
    """An event did not arrive; it may at another time."""


class RefusedError(Exception):
    """An event is not wanted, or must not be sent there; that is so at any time."""
