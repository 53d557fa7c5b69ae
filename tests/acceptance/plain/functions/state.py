"""A class is set up once, and its object answers the calls. How long processes live."""

import os

import skipper

set_up = 0


@skipper.data(idle="200ms")
def short_lived() -> int:
    return os.getpid()


@skipper.data(recycle=5, max=2)
def recycled() -> int:
    return os.getpid()


@skipper.inference
class Counter:
    def __init__(self) -> None:
        global set_up  # noqa: PLW0603 - counts how often this runs in the process
        set_up += 1
        self.calls = 0

    def __call__(self, step: int = 1) -> dict[str, int]:
        self.calls += step
        return {"set_up": set_up, "calls": self.calls, "pid": os.getpid()}
