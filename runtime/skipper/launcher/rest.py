"""Reads a few JSON documents from the gateway, without the weight of an HTTP library."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from skipper.settings.model import Settings


async def get(settings: Settings, path: str, timeout_s: float = 2.0) -> tuple[int, Any] | None:
    """Status and JSON (None where it is none) of ``path``; None where nobody answers in time."""
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _exchange(settings, path)
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
    except (OSError, TimeoutError, ValueError, IndexError):
        return None
    try:
        return status, json.loads(body)
    except ValueError:
        return status, None


async def _exchange(settings: Settings, path: str) -> bytes:
    host = urlsplit(settings.base_url).netloc or "localhost"
    keys = settings.gateway.keys
    # HTTP/1.0: the answer comes whole and ends with the connection
    lines = [f"GET {path} HTTP/1.0", f"Host: {host}", "Accept: application/json"]
    if keys:
        lines.append(f"Authorization: Bearer {keys[0].get_secret_value()}")
    reader, writer = await _connect(settings)
    try:
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        return await reader.read()
    finally:
        writer.close()


async def _connect(settings: Settings) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if settings.gateway_socket is not None:
        return await asyncio.open_unix_connection(settings.gateway_socket)
    url = urlsplit(settings.base_url)
    if (pair := settings.tls_files) is None:
        return await asyncio.open_connection(url.hostname, url.port)
    from skipper import tls  # here, because a tree without TLS needs no OpenSSL

    return await asyncio.open_connection(url.hostname, url.port, ssl=tls.pinned(pair[0]))
