"""The function on BentoML: one worker, as the others have."""

from __future__ import annotations

import bentoml


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Sum:
    @bentoml.api
    def predict(self, x: list[float]) -> dict[str, float]:
        return {"y": sum(x)}
