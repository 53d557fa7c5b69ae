"""A value: bytes of one media type, inline or in the store."""

from __future__ import annotations

from dataclasses import dataclass

JSON = "application/json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """The input or the result of a function.

    Either ``inline`` has its bytes or ``ref`` the digest of the blob that has them. Raises
    ValueError for both or neither.
    """

    inline: bytes | None = None
    ref: str | None = None
    size: int | None = None
    """In bytes, with all its parts; None where it is the length of what is inline, or unknown."""
    media_type: str = JSON
    refs: tuple[str, ...] = ()
    """The blobs that it consists of besides, where it is an envelope."""

    def __post_init__(self) -> None:
        if (self.inline is None) is (self.ref is None):
            raise ValueError("a value is either inline or in the store")
