"""Functions that call functions: of this file, of this pool, of the other pool, as tasks."""

import os
import time
from typing import Any

import skipper


@skipper.data
def inner(x: int) -> int:
    return x + 1


@skipper.inference(pool="gpu")
def elsewhere(x: int) -> int:
    return x * 100


@skipper.training
def learn(x: int) -> dict[str, int]:
    return {"learned": x}


@skipper.data
def local(x: int) -> int:
    return inner(x)


@skipper.data
def remote(x: int) -> int:
    return inner.remote(x=x) + elsewhere.remote(x)


@skipper.inference(pool="gpu")
def back(x: int) -> int:
    return inner.remote(x)


@skipper.data
async def aremote(x: int) -> int:
    return await inner.aremote(x) + await elsewhere.aremote(x)


@skipper.data
def spawn(x: int) -> dict[str, Any]:
    handle = inner.spawn(x)
    return {"id": handle.id, "value": handle.result(timeout=30)}


@skipper.data
def fan_out(items: list[int]) -> list[int]:
    return elsewhere.map(items)


@skipper.data
def child() -> dict[str, Any]:
    return learn.remote(7)


@skipper.training
def parent() -> list[Any]:
    return [learn.remote(1), inner.remote(1)]


@skipper.data
def deep(left: int) -> int:
    return 0 if left == 0 else deep.remote(left - 1) + 1


@skipper.data
def catches() -> str:
    try:
        fails.remote()
    except skipper.CallError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


@skipper.data
def fails() -> None:
    raise ValueError("inner failure")


@skipper.data
def naps(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@skipper.data(timeout=0.5)
def impatient() -> int:
    return naps.remote(600)


@skipper.data
def wrong_body() -> str:
    try:
        inner.remote("not a number")  # type: ignore[arg-type] # that is the point
    except ValueError as error:
        return str(error)
    return "nothing was raised"


@skipper.data
def unknown() -> str:
    ghost = skipper.data(_ghost)
    try:
        ghost.remote()
    except LookupError as error:
        return str(error)
    return "nothing was raised"


def _ghost() -> None:
    return None
