"""What `skipper up` shows when the gateway answers: addresses, broker, pools, functions. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipper.launcher.lines import neutral
from skipper.settings.masking import masked
from skipper.settings.model import Settings

_MOST = 20
"""More functions than that are counted, not listed."""
_WIDTH = 78

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class View:
    """What the banner shows. ``functions``, ``broken`` and ``pools`` are the gateway's."""

    settings: Settings
    version: str
    took_s: float
    broker_version: str = ""
    shown_pools: tuple[str, ...]
    functions: tuple[Document, ...] = ()
    broken: tuple[Document, ...] = ()
    reading: tuple[str, ...] = ()
    """Files whose functions are not known yet."""
    pools: tuple[Document, ...] = ()
    is_answering: bool = True


def banner(view: View, *, colour: bool) -> str:
    """The whole banner, with its closing newline."""
    paint = _painter(colour)
    title = f"  {paint('1', f'Skipper {view.version}')}   {home(view.settings.project_dir)}"
    plain = f"  Skipper {view.version}   {home(view.settings.project_dir)}"
    took = f"up in {view.took_s:.1f} s"
    lines = ["", title + took.rjust(max(_WIDTH - len(plain), len(took) + 3)), ""]
    lines += [f"  {paint('2', f'{label:10}')} {text}" for label, text in _facts(view)]
    lines += ["", *_functions(view, paint), ""]
    return "\n".join(lines) + "\n"


def _facts(view: View) -> Iterable[tuple[str, str]]:
    url = view.settings.base_url
    if view.is_answering and url.startswith("unix:"):
        yield "REST", url
    elif view.is_answering:
        yield "REST", f"{url}/v1/functions"
        yield "API docs", f"{url}/docs"
        yield "Metrics", f"{url}/metrics"
    yield "Broker", _broker(view)
    yield "Pools", "   ".join(_pool(view, name) for name in view.shown_pools) or "none"
    if view.settings.run.reload:
        folder = view.settings.functions_dir.relative_to(view.settings.project_dir)
        yield "Watching", f"{folder}/   (Ctrl-C stops)"


def _broker(view: View) -> str:
    if view.settings.broker_is_embedded:
        version = f" {view.broker_version}" if view.broker_version else ""
        return f"embedded valkey{version} (unix:{view.settings.run_dir / 'v.sock'})"
    return neutral(str(masked(view.settings.broker.url)))


def _pool(view: View, name: str) -> str:
    found = next((pool for pool in view.pools if pool.get("pool") == name), None)
    if not found or not found.get("reachable", True):
        return f"{name} (starting)"
    return f"{name} \N{MULTIPLICATION SIGN}{found.get('slots', '?')}{_devices(view, name, found)}"


def _devices(view: View, name: str, pool: Document) -> str:
    return device_text(name, pool) if view.settings.pools[name].devices else ""


def device_text(name: str, pool: Document) -> str:
    """The devices of a pool that may have some, or that there are none."""
    names = [str(device["name"]) for device in pool.get("devices", ())]
    if not names:
        return f" (no GPU found: {name} functions run on the CPU)"
    return f" ({neutral(', '.join(names))})"


def _functions(view: View, paint: _Painter) -> Iterable[str]:
    if not view.is_answering:
        return
    states = [str(each.get("state", "live")) for each in view.functions]
    counts = [f"{states.count(state)} {state}" for state in ("live", "stale", "failing", "loading")]
    counts = [text for text in counts if not text.startswith("0 ")]
    if view.broken:
        counts.append(paint("31", f"{len(view.broken)} broken"))
    if view.reading:
        counts.append(f"reading {neutral(', '.join(view.reading))}")
    folder = view.settings.functions_dir.name
    yield f"  {paint('2', 'Functions ')} {', '.join(counts) or f'none yet: save one in {folder}/'}"
    rows = [_row(view, each) for each in view.functions[:_MOST]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        yield f"    {'  '.join(cells)}".rstrip()
    if len(view.functions) > _MOST:
        yield f"    … and {len(view.functions) - _MOST} more: skipper functions"
    for each in view.broken:
        error = neutral(str(each.get("error", "")))
        yield f"    {paint('31', '✗ broken')}   {_where(view, each)}   {error}"


def _row(view: View, function: Document) -> tuple[str, str, str, str, str]:
    state = str(function.get("state", "live"))
    return (
        f"POST /v1/functions/{neutral(str(function.get('name')))}/invoke",
        str(function.get("kind", "")),
        str(function.get("pool", "")),
        _file(view, function),
        "" if state == "live" else state,
    )


def _where(view: View, broken: Document) -> str:
    line = broken.get("line")
    return f"{_file(view, broken)}:{line}" if line else _file(view, broken)


def _file(view: View, document: Document) -> str:
    return neutral(str(document.get("file", "")).removeprefix(f"{view.settings.project_dir}/"))


def home(path: Path) -> str:
    """``path`` as people write it: ``~/proj``."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


class _Painter:
    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text


def _painter(colour: bool) -> _Painter:
    return _Painter(colour)
