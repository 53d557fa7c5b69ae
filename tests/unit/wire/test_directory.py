"""What is known of the functions of hosts that come and go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skipper.errors import UnavailableError
from skipper.spec import BrokenFile
from skipper.wire.directory import Directory
from skipper.wire.frames import FrameKind
from skipper.wire.messages import FunctionState, LinkRole, ListedFunction, ModelsRenewed
from tests.unit.wire.stand_in import LIMIT_S, SPEC, StandIn, listed, until


async def test_a_function_of_a_host_that_is_away_is_remembered(
    host: StandIn, directory: Directory
) -> None:
    host.leave()
    await until(lambda: not directory.links["cpu"].is_up)
    assert directory.remembered("f.f") is not None
    await host.come(loading=("f",))
    await directory.links["cpu"].until_up(LIMIT_S)
    await until(lambda: directory.loading() == ["f"])
    assert directory.remembered("f.f") is not None


async def test_only_a_host_knows_of_private_functions(folder: Path, host: StandIn) -> None:
    private = SPEC.model_copy(update={"name": "f._g"})
    host.change(functions=listed(SPEC, private))
    async with Directory(folder, ["cpu"], LinkRole.HOST) as inside:
        assert await inside.find("f._g", LIMIT_S) == (private, inside.links["cpu"])
    async with Directory(folder, ["cpu"], LinkRole.GATEWAY) as outside:
        assert await outside.find("f.f", LIMIT_S) is not None
        assert await outside.find("f._g", LIMIT_S) is None
        assert outside.remembered("f._g") is None
        assert outside.functions() == list(listed(SPEC))


async def test_what_the_last_host_served_is_not_asked_of_the_next_until_it_serves_it(
    host: StandIn, directory: Directory
) -> None:
    host.leave()
    await until(lambda: not directory.links["cpu"].is_up)
    await host.come(loading=("f",))
    await directory.links["cpu"].until_up(LIMIT_S)
    assert directory.get("f.f") is None
    finding = asyncio.create_task(directory.find("f.f", LIMIT_S))
    await until(lambda: directory.loading() == ["f"])
    host.change(loading=(), functions=listed(SPEC))
    assert await finding == (SPEC, directory.links["cpu"])


async def test_a_function_that_is_gone_after_a_restart_is_forgotten(
    host: StandIn, directory: Directory
) -> None:
    host.leave()
    await host.come()
    await until(lambda: not directory.loading() and not directory.get("f.f"))
    assert directory.remembered("f.f") is None
    assert await directory.find("f.f", LIMIT_S) is None


async def test_a_function_is_waited_for_no_longer_than_the_caller_has_patience(
    host: StandIn, directory: Directory
) -> None:
    host.change(loading=("g",))
    await until(lambda: directory.loading() == ["g"])
    with pytest.raises(UnavailableError):
        await directory.find("g.g", 0.05)
    assert await directory.find("h.h", 0.05) is None


async def test_a_function_of_another_pool_is_found_beside_a_host_of_another_version(
    folder: Path, host: StandIn
) -> None:
    other = StandIn(folder / "gpu.sock")
    other.hello = None
    await other.come()
    async with Directory(folder, ["gpu", "cpu"], LinkRole.GATEWAY) as directory:
        await until(lambda: directory.links["gpu"].incompatible)
        assert await directory.find("f.f", LIMIT_S) == (SPEC, directory.links["cpu"])
        host.change(loading=("g",))
        await until(lambda: directory.loading() == ["*", "g"])
        with pytest.raises(UnavailableError, match="still being read"):
            await directory.find("g.g", 0.05)
        with pytest.raises(UnavailableError, match="speaks protocol 0"):
            await directory.find("h.h", LIMIT_S)
    other.leave()


async def test_a_host_is_nudged_with_the_task_and_nobody_for_a_pool_that_is_elsewhere(
    host: StandIn, directory: Directory
) -> None:
    directory.nudge("elsewhere", "another")
    directory.nudge("cpu", "a-task")
    await until(lambda: host.of(FrameKind.NUDGE))
    assert [frame.payload for frame in host.of(FrameKind.NUDGE)] == [b"a-task"]


async def test_hints_of_changed_tasks_are_passed_on(host: StandIn, directory: Directory) -> None:
    changed: list[str] = []
    directory.on_tasks = changed.extend
    host.send(FrameKind.TASKS, 0, b"one\ntwo")
    await until(lambda: changed)
    assert changed == ["one", "two"]


# --- what is broken --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name", "is_it"),
    [
        ("functions/boston.py", "boston.predict", True),
        ("functions/boston/__init__.py", "boston.predict", True),
        ("functions/boston.py", "iris.predict", False),
        ("functions/boston.py", "predict", False),
    ],
)
async def test_the_broken_file_that_would_define_a_function_is_found(
    host: StandIn, directory: Directory, file: str, name: str, is_it: bool
) -> None:
    host.change(broken=(BrokenFile(file=file, line=3, error="NameError: np"),))
    await until(directory.broken)
    found = directory.broken_for(name)
    assert (found is not None and found.file == file) is is_it


async def test_each_function_that_is_wrong_is_found_by_its_name_alone(
    host: StandIn, directory: Directory
) -> None:
    items = [
        BrokenFile(file="functions/boston.py", error=each, function=f"boston.{each}")
        for each in ("train", "predict")
    ]
    host.change(broken=tuple(items))
    await until(directory.broken)
    assert directory.broken() == items
    assert [directory.broken_for(item.function) for item in items] == items
    assert directory.broken_for("boston.evaluate") is None


async def test_functions_are_listed_by_name_with_their_state(
    host: StandIn, directory: Directory
) -> None:
    specs = [SPEC.model_copy(update={"name": name}) for name in ("b.f", "a.g", "a.f")]
    stale = ListedFunction(spec=specs.pop(), state=FunctionState.STALE)
    host.change(functions=(*listed(*specs), stale))
    await until(lambda: directory.get("a.g"))
    documents = [item.document() for item in directory.functions()]
    found = [(each["name"], each["state"]) for each in documents]
    assert found == [("a.f", "stale"), ("a.g", "live"), ("b.f", "live")]


async def test_all_hosts_are_asked_and_one_that_hangs_is_not_waited_for(
    host: StandIn, directory: Directory
) -> None:
    await directory.renew_models(0.05)
    asking = asyncio.create_task(directory.renew_models(LIMIT_S))
    await until(lambda: len(host.of(FrameKind.ASK)) == 2)
    host.send(FrameKind.ANSWER, host.of(FrameKind.ASK)[1].id, ModelsRenewed().to_json())
    await asyncio.wait_for(asking, LIMIT_S)
    host.leave()
    await directory.renew_models(LIMIT_S)
