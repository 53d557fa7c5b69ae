"""The function as an ``async def`` of a FastAPI app."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel


class Row(BaseModel):
    x: list[float]


app = FastAPI()


@app.post("/predict")
async def predict(row: Row) -> dict[str, float]:
    return {"y": sum(row.x)}
