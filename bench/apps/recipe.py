"""Tasks as one usually has them: FastAPI hands them to Celery, results come back through Redis."""

from __future__ import annotations

import os

from celery import Celery
from celery.result import AsyncResult
from fastapi import FastAPI
from pydantic import BaseModel

URL = os.environ["RECIPE_REDIS"]
RESULTS = 1
"""The database of results, which holds nothing else."""

worker = Celery("recipe", broker=f"{URL}/0", backend=f"{URL}/{RESULTS}")
app = FastAPI()


class Order(BaseModel):
    n: int


@worker.task
def nothing(n: int) -> int:
    return n


@app.post("/tasks", status_code=202)
async def submit(order: Order) -> dict[str, str]:
    # Not in a thread: it takes half a millisecond, and a thread would cost more than it.
    return {"id": nothing.delay(order.n).id}


@app.get("/tasks/{task_id}")
async def look(task_id: str) -> dict[str, object]:
    found = AsyncResult(task_id, app=worker)
    state = found.state
    return {"state": state, "result": found.result if state == "SUCCESS" else None}
