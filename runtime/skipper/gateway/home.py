"""The page of the gateway's own address, for a person who opens it: what is here, and where."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi.responses import HTMLResponse

import skipper
from skipper.gateway.routes.functions import short
from skipper.spec import BrokenFile
from skipper.wire.messages import ListedFunction

_LINKS = {
    "API docs": "docs",
    "functions": "v1/functions",
    "tasks": "v1/tasks",
    "models": "v1/models",
    "pools": "v1/pools",
    "readiness": "readyz?verbose",
    "metrics": "metrics",
}
"""Relative, so that any prefix will do."""
MOST = 200
"""Functions, and broken files, that the page lists."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto }}
td, th {{ text-align: left; padding: .1rem 1.5rem .1rem 0; vertical-align: top }}
code {{ font-size: .95em }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>Served by Skipper {version}. {links}</p>
<h2>Functions</h2>
{functions}
{broken}
</body>
</html>
"""


def wants_json(accept: str) -> bool:
    """Whether who asks is a program: it accepts JSON, and no page."""
    return "json" in accept and "text/html" not in accept


def home_document(
    name: str, functions: Sequence[ListedFunction], broken: Sequence[BrokenFile]
) -> dict[str, Any]:
    """What the page says, for programs."""
    return {
        "project": name,
        "version": skipper.__version__,
        "links": dict(_LINKS),
        "functions": [each.spec.name for each in functions],
        "broken": [short(each.file) for each in broken],
    }


def home_page(
    name: str, functions: Sequence[ListedFunction], broken: Sequence[BrokenFile]
) -> HTMLResponse:
    """The page. It runs no script, and everything in it that is somebody's is text."""
    text = _PAGE.format(
        title=html.escape(name),
        version=html.escape(skipper.__version__),
        links=" · ".join(f'<a href="{path}">{text}</a>' for text, path in _LINKS.items()),
        functions=_functions(functions),
        broken=_broken(broken),
    )
    return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY})


def _functions(functions: Sequence[ListedFunction]) -> str:
    if not functions:
        return "<p>None yet: save a file in the project's folder of functions.</p>"
    header = ("function", "kind", "state", "call it with", "")
    rows = (
        (
            f"<code>{html.escape(each.spec.name)}</code>",
            html.escape(each.spec.kind),
            html.escape(each.state),
            f"<code>POST v1/functions/{html.escape(each.spec.name)}/invoke</code>",
            html.escape(each.spec.summary),
        )
        for each in functions[:MOST]
    )
    return _table(header, rows) + _more(len(functions))


def _broken(broken: Sequence[BrokenFile]) -> str:
    if not broken:
        return ""
    rows = ((html.escape(short(each.file)), html.escape(each.error)) for each in broken[:MOST])
    return "<h2>What does not load</h2>\n" + _table(("file", "why"), rows) + _more(len(broken))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{text}</th>" for text in header)
    lines = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    body = (f"<tr>{row}</tr>" for row in lines)
    return "\n".join(["<table>", f"<tr>{head}</tr>", *body, "</table>"])


def _more(count: int) -> str:
    return f"<p>… and {count - MOST} more</p>" if count > MOST else ""
