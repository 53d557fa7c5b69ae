"""HTTP/1.1 as the gateway speaks it: bytes of one connection in, requests out, answers back.

Knows no route and no function, and neither FastAPI nor Starlette. Whoever answers requests is a
:class:`~skipper.gateway.http.connection.Service`; it gets one
:class:`~skipper.gateway.http.exchange.Exchange` for each request as soon as its head is there.
``asgi.py`` has an application answer it; what needs none writes to the exchange itself.

What a caller can make the process keep is counted before it is kept (:mod:`.limits`), and time is
looked after by one timer for all connections (:mod:`.connections`).
"""
