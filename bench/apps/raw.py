"""The function inside a raw Starlette app: the least that answers over HTTP in Python."""

from __future__ import annotations

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Row(BaseModel):
    x: list[float]


_ROW = TypeAdapter(Row)


async def predict(request: Request) -> Response:
    row = _ROW.validate_json(await request.body())
    return Response(to_json({"y": sum(row.x)}), media_type="application/json")


app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
