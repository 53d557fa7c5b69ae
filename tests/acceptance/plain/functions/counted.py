"""Functions that count for /metrics."""

import os

import skipper


@skipper.inference(max=2)
def answer(words: list[str], *, run: skipper.Run) -> int:
    run.count("words", len(words), kind="in")
    run.observe("length", len(words))
    return os.getpid()


@skipper.inference
async def waits(x: int, *, run: skipper.Run) -> int:
    run.count("words", x, kind="in")
    return x


@skipper.inference(batch=4)
def together(x: list[int], *, run: skipper.Run) -> list[int]:
    run.count("items", len(x))
    return x


@skipper.training
def learn(rows: int, *, run: skipper.Run) -> int:
    run.count("rows", rows)
    run.count("rows", -1)
    run.count("no name")
    run.observe("loss", float("nan"))
    return rows


@skipper.inference
def dies(*, run: skipper.Run) -> None:
    run.count("begun")
    run.log("over")
    raise RuntimeError("a run that fails has counted")
