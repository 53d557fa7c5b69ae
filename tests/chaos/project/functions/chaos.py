"""The functions that a campaign calls. Each notes in the effect log what it really did."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np

import skipper

EFFECTS = Path(__file__).resolve().parent.parent / "effects.log"
PATIENT = 100
"""Retries of tasks that must succeed however often their instances are killed."""
STRIDES = 4
"""Checkpoints of one task."""
Octets = Annotated[np.ndarray, skipper.Array("uint8", (None,))]


def note(run: skipper.Run, nonce: str, what: str) -> None:
    """One line, one write: what is in the log happened, and lines never mix."""
    line = f"{run.task_id or '-'} {run.attempt} {os.getpid()} {nonce} {what}\n"
    fd = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def act(run: skipper.Run, nonce: str, ms: int) -> dict[str, Any]:
    """What all of them do: be seen to start, take a while, be seen to end, echo the nonce."""
    note(run, nonce, "start")
    time.sleep(ms / 1000)
    note(run, nonce, "end")
    return {"nonce": nonce}


@skipper.data(mode="task", retries=PATIENT)
def work(nonce: str, ms: int = 5, *, run: skipper.Run) -> dict[str, Any]:
    """Take a while on the cpu pool, and tell of it."""
    run.progress(0, 1)
    print("working on", nonce)
    return act(run, nonce, ms)


@skipper.data(mode="task", retries=PATIENT, pool="gpu")
def heavy(nonce: str, ms: int = 5, *, run: skipper.Run) -> dict[str, Any]:
    """Take a while on the gpu pool."""
    return act(run, nonce, ms)


@skipper.data(mode="task")
def once(nonce: str, ms: int = 5, *, run: skipper.Run) -> dict[str, Any]:
    """Has one attempt: ends crashed if its own process is killed."""
    return act(run, nonce, ms)


@skipper.data(mode="task", retries=PATIENT)
def bulk(nonce: str, ballast: str, ms: int = 5, *, run: skipper.Run) -> dict[str, Any]:
    """Input and result are too large to stand in the ledger."""
    return act(run, nonce, ms) | {"ballast": ballast[::-1]}


@skipper.data(mode="task", retries=PATIENT)
def carry(nonce: str, file: skipper.File, ms: int = 5, *, run: skipper.Run) -> skipper.File:
    """A file in, and its content turned around out: by reference, where it is large."""
    act(run, nonce, ms)
    turned = EFFECTS.parent / f"turned-{os.getpid()}.bin"  # the same for each task of a process
    turned.write_bytes(file.path.read_bytes()[::-1])
    return skipper.File(turned)


@skipper.data(mode="task", retries=PATIENT)
def relay(nonce: str, file: skipper.File, ms: int = 5, *, run: skipper.Run) -> bytes:
    """The same, turned around as an array by a task of the other pool."""
    note(run, nonce, "start")
    sent = np.frombuffer(file.path.read_bytes(), np.uint8)
    turned = turn.remote(nonce=f"{nonce}/{run.attempt}", x=sent, ms=ms)  # type: ignore[call-arg] # `run` is injected
    note(run, nonce, "end")
    return turned.tobytes()


@skipper.data(mode="task", retries=PATIENT, pool="gpu")
def turn(nonce: str, x: Octets, ms: int = 5, *, run: skipper.Run) -> Octets:
    """An array turned around."""
    act(run, nonce, ms)
    return x[::-1]


@skipper.data(mode="task", retries=PATIENT)
def parent(nonce: str, ms: int = 5, *, run: skipper.Run) -> dict[str, Any]:
    """Waits for a task of its own on the other pool."""
    note(run, nonce, "start")
    child = heavy.remote(nonce=f"{nonce}/{run.attempt}", ms=ms)  # type: ignore[call-arg] # `run` is injected
    note(run, nonce, "end")
    return {"nonce": nonce, "child": child}


@skipper.data(mode="task", retries=PATIENT)
def fickle(nonce: str, ms: int = 5, *, run: skipper.Run) -> dict[str, Any]:
    """Gives up in the middle of its work as soon as it is told to."""
    note(run, nonce, "start")
    end = time.monotonic() + ms / 1000
    while time.monotonic() < end:
        if run.cancelled:
            raise skipper.Cancelled
        time.sleep(0.01)
    note(run, nonce, "end")
    return {"nonce": nonce}


@skipper.training(retries=PATIENT, pool="gpu")
def train(nonce: str, ms: int = 5, *, run: skipper.Run) -> skipper.Model:
    """Makes a version of the model that ``serve`` serves."""
    act(run, nonce, ms)
    return skipper.Model("weights", {"nonce": nonce}, metrics={"nonce": nonce})


@skipper.training(retries=PATIENT)
def stride(nonce: str, ms: int = 5, *, run: skipper.Run) -> dict[str, Any]:
    """Goes on from its last checkpoint, and notes where that was and which it has made."""
    note(run, nonce, "start")
    first = run.restored["step"] if run.restored else 0
    note(run, nonce, f"from:{first}")
    for step in range(first + 1, STRIDES + 1):
        time.sleep(ms / 1000)
        run.checkpoint({"step": step, "nonce": nonce})
        note(run, nonce, f"kept:{step}")
    note(run, nonce, "end")
    return {"nonce": nonce}


@skipper.inference(timeout=10)
def echo(nonce: str, ms: int = 0, *, run: skipper.Run) -> dict[str, Any]:
    """A direct call."""
    return act(run, nonce, ms)


@skipper.inference(timeout=10)
def serve(
    nonce: str, *, run: skipper.Run, model: Annotated[dict[str, Any], skipper.Loaded("weights")]
) -> dict[str, Any]:
    """A direct call that a model answers."""
    return act(run, nonce, 0) | {"trained_by": model["nonce"]}
