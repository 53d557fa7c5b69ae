"""Load from wrk: a C program, so that the measuring side is not what is measured."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

_SCRIPT = """
wrk.method = "POST"
wrk.body = %s
wrk.headers["Content-Type"] = "application/json"
%s
done = function(summary, latency, requests)
  io.stderr:write(string.format(
    '{"requests":%%d,"duration_us":%%d,"p50_us":%%d,"p99_us":%%d,"refused":%%d,"broken":%%d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


class Load(NamedTuple):
    """What a load brought. ``failed`` counts answers from 400 on, and those that never came."""

    requests: int
    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


class LoadError(Exception):
    """More went wrong than a measurement bears."""


def post(
    url: str,
    body: str | Path,
    *,
    connections: int,
    seconds: float,
    headers: dict[str, str] | None = None,
) -> Load:
    """POST ``body``, or what a file has, over so many connections, the next as one is answered.

    Raises :class:`LoadError` where more than one answer in a hundred is an error.
    """
    extra = "".join(f'wrk.headers["{k}"] = "{v}"\n' for k, v in (headers or {}).items())
    with tempfile.TemporaryDirectory(prefix="skipper-wrk-") as folder:
        script = Path(folder, "post.lua")
        # A file's bytes are read by wrk, because a script is text.
        is_file = isinstance(body, Path)
        shown = f'io.open("{body}", "rb"):read("*a")' if is_file else f"[==[{body}]==]"
        script.write_text(_SCRIPT % (shown, extra), encoding="utf-8")
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        command += ["--timeout", "30s", "-s", str(script), url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return _load(json.loads(done.stderr), url)


def _load(told: dict[str, int], url: str) -> Load:
    failed = told["refused"] + told["broken"]
    if failed * 100 > told["requests"] or not told["requests"]:
        raise LoadError(f"{failed} of {told['requests']} calls of {url} failed")
    return Load(
        requests=told["requests"],
        per_s=told["requests"] / (told["duration_us"] / 1e6),
        p50_ms=told["p50_us"] / 1000,
        p99_ms=told["p99_us"] / 1000,
        failed=failed,
    )
