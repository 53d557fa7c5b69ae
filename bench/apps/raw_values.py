"""Large values inside a raw Starlette app: the least that takes and gives bytes in Python."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def size(request: Request) -> Response:
    return JSONResponse(len(await request.body()))


async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/x-npy")


app = Starlette(
    routes=[Route("/predict", size, methods=["POST"]), Route("/echo", echo, methods=["POST"])]
)
