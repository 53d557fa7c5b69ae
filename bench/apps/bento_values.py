"""The size of a picture on BentoML, which hands its functions a file: one worker."""

from __future__ import annotations

from pathlib import Path

import bentoml


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Size:
    @bentoml.api
    def predict(self, image: Path) -> int:
        return image.stat().st_size
