"""Announces that the tree answers, then that it is ready: to people and to detached starts."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import skipper
from skipper.errors import StartError
from skipper.exits import Exit
from skipper.launcher import rest
from skipper.launcher.banner import View, banner, device_text
from skipper.launcher.output import LogOutput
from skipper.launcher.plan import GATEWAY
from skipper.launcher.supervisor import Supervisor
from skipper.settings.model import Settings

_POLL_S = 0.05
_SETTLE_S = 3.0
"""How long functions may take to load before the banner is shown without them."""
_UNCHANGED_S = 0.4
"""Some functions are known and nothing changes for so long: the others are heavy."""
_HEAVY_S = 1.0
"""No function is known and nothing changes for so long: all are heavy."""
_UNREPORTED = "*"
"""Among the files being read: those of a host that has not reported yet."""
_LATE_S = 10.0
_IMPORTED_AT = time.monotonic()


class StartAnnouncer:
    """Watches a starting tree through its REST interface."""

    def __init__(self, settings: Settings, output: LogOutput, supervisor: Supervisor) -> None:
        self._settings, self._output, self._supervisor = settings, output, supervisor
        plans = [keeper.plan for keeper in supervisor.keepers]
        self._has_gateway = any(plan.level == GATEWAY for plan in plans)
        names = [plan.name for plan in plans]
        self._pools = tuple(name for name in settings.pools if name in names)
        self.answers = asyncio.Event()
        """Set when the banner has been shown."""

    async def show(self) -> None:
        """Show the banner as soon as the gateway answers and the quick functions are live."""
        if not self._has_gateway:
            self._show(View(**self._facts(), is_answering=False))
            return
        document = await self._settled()
        _, pools = await rest.get(self._settings, "/v1/pools") or (0, None)
        view = View(
            **self._facts(),
            broker_version=await self._broker_version(),
            functions=_items(document),
            broken=_items(document, "broken"),
            reading=_reading(document),
            pools=_items(pools),
        )
        self._show(view)

    async def ready(self, report: Callable[[], None]) -> None:
        """Wait until everything is ready and log it. Raises StartError for ``run.strict``."""
        if self._has_gateway:
            await self._until_readyz()
        took_s = process_age_s()
        _, pools = await rest.get(self._settings, "/v1/pools") or (0, None)
        self._output.log("info", f"ready in {took_s:.1f} s{self._devices(_items(pools))}")
        report()

    def _devices(self, pools: Iterable[dict[str, Any]]) -> str:
        answers = {str(each.get("pool")): each for each in pools if each.get("reachable", True)}
        having = [name for name, pool in self._settings.pools.items() if pool.devices]
        texts = [device_text(name, answers[name]) for name in having if name in answers]
        return "".join(dict.fromkeys(texts))  # the same devices once

    def _show(self, view: View) -> None:
        url = self._settings.base_url if view.is_answering else ""
        log = self._output.log if self._output.is_json else self._output.log_to_files
        log("info", "up", url=url, took_s=round(view.took_s, 2), version=view.version)
        self._output.show(banner(view, colour=self._output.colour))
        self.answers.set()

    def _facts(self) -> dict[str, Any]:
        return {
            "settings": self._settings,
            "version": skipper.__version__,
            "took_s": process_age_s(),
            "shown_pools": self._pools,
        }

    async def _settled(self) -> Any:
        """The functions, once they are live or have shown that they take their time."""
        seen, begun, changed = None, 0.0, 0.0
        while True:
            status, document = await rest.get(self._settings, "/v1/functions") or (0, None)
            now = time.monotonic()
            if status:
                begun = begun or now
                if document != seen:
                    seen, changed = document, now
                if status != 200 or now - begun > _SETTLE_S or self._is_stable(seen, now - changed):
                    return document
            await asyncio.sleep(_POLL_S)

    def _is_stable(self, document: Any, unchanged_s: float) -> bool:
        is_known = bool(_items(document) or _items(document, "broken"))
        if _reading(document):
            return unchanged_s > (_UNCHANGED_S if is_known else _HEAVY_S)
        return is_known or not any(self._settings.functions_dir.glob("*"))

    async def _until_readyz(self) -> None:
        begun = time.monotonic()
        while True:
            status, _ = await rest.get(self._settings, "/readyz") or (0, None)
            if status == 200:
                return
            if self._settings.run.strict:
                await self._check_strict()
            await asyncio.sleep(0.2 if time.monotonic() - begun < _LATE_S else 1.0)

    async def _check_strict(self) -> None:
        """With run.strict, a broken function file ends the tree."""
        _, document = await rest.get(self._settings, "/v1/functions") or (0, None)
        all_ = [
            f"{each.get('file')}:{each.get('line') or 1} cannot be loaded: {each.get('error')}"
            for each in _items(document, "broken")
        ]
        if all_:
            raise StartError("\n".join(all_) + " (strict)", code=Exit.INVALID)

    async def _broker_version(self) -> str:
        if not self._settings.broker_is_embedded:
            return ""
        try:
            async with asyncio.timeout(1.0):
                path = self._settings.run_dir / "v.sock"
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"INFO server\r\n")
                text = (await reader.read(4096)).decode("utf-8", "replace")
                writer.close()
        except (OSError, TimeoutError):
            return ""
        facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return facts.get("valkey_version") or facts.get("redis_version", "")


def process_age_s() -> float:
    """Seconds since this process was started: since Enter was pressed, near enough."""
    try:
        text = Path("/proc/self/stat").read_text("utf-8")
        ticks = int(text[text.rindex(")") + 2 :].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return time.monotonic() - _IMPORTED_AT


def _items(document: Any, key: str = "items") -> tuple[dict[str, Any], ...]:
    found = document.get(key) if isinstance(document, dict) else None
    return tuple(each for each in found or () if isinstance(each, dict))


def _reading(document: Any) -> tuple[str, ...]:
    """The files that a host is known to be reading."""
    found = document.get("loading") if isinstance(document, dict) else None
    return tuple(str(name) for name in found or () if name != _UNREPORTED)
