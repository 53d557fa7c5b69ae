"""What instances ask of their host while they run calls: where it is answered."""

from __future__ import annotations

from dataclasses import dataclass

from skipper.instance.wishes import FindModel, parse_wish
from skipper.pool.durable.checkpoints import Checkpoints
from skipper.pool.named import NamedModels
from skipper.pool.processes.process import InstanceProcess


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """Answers WISH frames."""

    checkpoints: Checkpoints
    named: NamedModels

    async def answer(self, instance: InstanceProcess, payload: bytes) -> bytes:
        """The answer's JSON. Raises ValueError for what is no wish, and a SkipperError."""
        wish = parse_wish(payload)
        if isinstance(wish, FindModel):
            return await self.named.find(instance, wish)
        return await self.checkpoints.answer(instance, wish)
