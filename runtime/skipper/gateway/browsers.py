"""What browsers are told about every answer, and the one page that is made for them.

An answer is data, which no page may frame, no guess may turn into a script, and no link may tell
other sites of. ``/docs`` alone runs scripts: its own, by their addresses and by one hash.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable

from fastapi.responses import HTMLResponse
from starlette.types import Message, Send

NO_GUESSES = (b"x-content-type-options", b"nosniff")
"""Also of the values of direct calls, which are nothing but JSON."""
FOR_BROWSERS = (
    NO_GUESSES,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"x-frame-options", b"DENY"),  # for browsers that do not know frame-ancestors
    (b"referrer-policy", b"no-referrer"),
)
"""Headers of every answer that has none of its own of that name."""


def for_browsers(send: Send) -> Send:
    """``send`` that adds :data:`FOR_BROWSERS` to a response."""
    return with_headers(send, FOR_BROWSERS)


def with_headers(send: Send, headers: Iterable[tuple[bytes, bytes]]) -> Send:
    """``send`` that adds to a response those of ``headers`` that it has not."""

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = message.get("headers", [])
            names = {name for name, _ in own}
            missing = [header for header in headers if header[0] not in names]
            message = {**message, "headers": [*own, *missing]}
        await send(message)

    return send_more


_START = """
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  showExtensions: true,
  showCommonExtensions: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="docs/static/swagger-ui.css">
<link rel="icon" href="docs/static/favicon.png">
<title>{title}</title>
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/static/swagger-ui-bundle.js"></script>
<script>{start}</script>
</body>
</html>
"""
_MAY = {
    "default-src": "'none'",
    "script-src": "'self' 'sha256-{hash}'",
    "style-src": "'self' 'unsafe-inline'",  # Swagger UI sets styles on its elements
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


def docs_page(title: str) -> HTMLResponse:
    """Swagger UI on the gateway's own document. Its addresses are relative: any prefix will do."""
    digest = base64.b64encode(hashlib.sha256(_START.encode()).digest()).decode()
    policy = "; ".join(f"{what} {whence}" for what, whence in _MAY.items()).format(hash=digest)
    headers = {"Content-Security-Policy": policy}
    return HTMLResponse(_PAGE.format(title=html.escape(title), start=_START), headers=headers)
