"""How the one object of a served class begins and ends."""

import asyncio
import logging
import weakref
from collections.abc import Callable
from typing import Any, Self

import pytest

import skipper
from skipper.function.decorators import Function
from skipper.instance.lifetime import ServedState

said: list[str] = []


@pytest.fixture(autouse=True)
def _silent() -> None:
    said.clear()


class _Manager:
    def __enter__(self) -> Self:
        said.append("enter")
        return self

    def __exit__(self, *error: object) -> None:
        said.append(f"exit {error}")

    def close(self) -> None:
        said.append("close")

    def __call__(self) -> int:
        return 1


class _Closed:
    def close(self) -> None:
        said.append("close")

    def __call__(self) -> int:
        return 1


class _Plain:
    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: said.append(name)

    def __call__(self) -> int:
        return 1


EXITED = f"exit {(None, None, None)}"


@pytest.mark.parametrize(
    ("kind", "told"),
    [(_Manager, ["enter", "served", EXITED]), (_Closed, ["served", "close"]), (_Plain, ["served"])],
)
def test_an_object_is_ended_in_the_first_way_that_its_class_has(
    kind: type, told: list[str]
) -> None:
    with ServedState(skipper.data(kind)):
        said.append("served")
    assert said == told


class _Looped:
    """bentoml/BentoML#5174"""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def _note(self, what: str) -> None:
        said.append(f"{what} {self.loop is asyncio.get_running_loop()}")

    async def __call__(self) -> int:
        return 1


class _AsyncManager(_Looped):
    async def __aenter__(self) -> Self:
        await asyncio.sleep(0)
        self._note("enter")
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)
        self._note("exit")


class _AsyncClosed(_Looped):
    async def close(self) -> None:
        await asyncio.sleep(0)
        self._note("close")


class _PlainlyClosed(_Looped):
    def aclose(self) -> None:
        self._note("close")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (_AsyncManager, ["enter True", "exit True"]),
        (_AsyncClosed, ["close True"]),
        (_PlainlyClosed, ["close True"]),
        (_Looped, []),
    ],
)
async def test_an_asynchronous_class_lives_on_the_loop_that_serves_it(
    kind: type, told: list[str]
) -> None:
    async with ServedState(skipper.data(kind)):
        pass
    assert said == told


class _Bad(_Closed):
    def close(self) -> None:
        raise SystemExit(3)


class _AsyncBad(_Looped):
    async def close(self) -> None:
        raise ValueError("no")


async def test_an_end_that_fails_is_logged_and_is_one_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        with ServedState(skipper.data(_Bad)):
            pass
        async with ServedState(skipper.data(_AsyncBad)):
            pass
    told = [record.getMessage() for record in caplog.records]
    names = ("_Bad", "_AsyncBad")
    assert told == [f"test_lifetime.{name} did not end as it should" for name in names]


def test_nothing_holds_the_object_after_its_end() -> None:
    function: Function[..., Any] = skipper.data(_Closed)
    with ServedState(function):
        held = weakref.ref(function.callable)
    assert held() is None


def test_a_function_has_neither_beginning_nor_end() -> None:
    @skipper.data
    def plain() -> int:
        return 1

    with ServedState(plain):
        assert plain() == 1
