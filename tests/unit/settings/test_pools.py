"""Pools: a table each, two of them without being written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from skipper.errors import SettingsError
from skipper.settings.handover import dump, make_run_dir, restore
from skipper.settings.loading import load
from skipper.settings.model import Settings
from skipper.settings.pools import PoolSettings
from skipper.settings.schema import leaves
from skipper.spec import DEFAULT_POOL


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "proj"
    folder.mkdir()
    return folder


def write(project: Path, text: str) -> None:
    (project / "skipper.toml").write_text(text)


def test_cpu_and_gpu_are_there_by_default_and_gpu_has_devices(project: Path) -> None:
    pools = load(project)[0].pools
    assert {name: pool.devices for name, pool in pools.items()} == {"cpu": False, "gpu": True}
    assert DEFAULT_POOL in pools


def test_a_pool_has_a_name_of_the_projects_own(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "[pools.big-2]\nslots = 1\n[pools.small]\n")
    monkeypatch.setenv("SKIPPER_POOLS_BIG_2_QUEUE", "7")
    settings, origins = load(project)
    assert [*settings.pools] == ["cpu", "gpu", "big-2", "small"]
    big = settings.pools["big-2"]
    assert (big.slots, big.queue, big.devices) == (1, 7, False)
    assert origins["pools.big-2.slots"] == "skipper.toml:2"
    assert origins["pools.big-2.queue"] == "$SKIPPER_POOLS_BIG_2_QUEUE"
    assert origins["pools.small.slots"] == origins["pools.gpu.slots"] == "default"
    assert dict(leaves(settings))["pools.big-2.slots"] == 1


def test_what_is_written_of_a_built_in_pool_lies_over_what_it_has(project: Path) -> None:
    write(project, "[pools.gpu]\nslots = 3\n[pools.cpu]\ndevices = true\n")
    pools = load(project)[0].pools
    assert pools["gpu"] == PoolSettings(slots=3, devices=True)
    assert pools["cpu"] == PoolSettings(devices=True)
    write(project, "[pools.gpu]\ndevices = false\n")
    assert not load(project)[0].pools["gpu"].devices


def test_a_pool_made_in_python_keeps_the_built_in_values_that_it_does_not_set() -> None:
    pools = Settings(project_dir=Path("/p"), pools={"gpu": PoolSettings(slots=1)}).pools
    assert pools == {"cpu": PoolSettings(), "gpu": PoolSettings(slots=1, devices=True)}


def test_pools_are_handed_on_whole_and_in_order(project: Path) -> None:
    write(project, "[pools.zebra]\ndevices = true\n[pools.ant]\n[pools.gpu]\ndevices = false\n")
    settings, _ = load(project)
    dump(settings, project / "settings.json")
    again = restore(project / "settings.json")
    assert again == settings
    assert [*again.pools] == ["cpu", "gpu", "zebra", "ant"]


@pytest.mark.parametrize("name", ["Big", "2big", "-big", "a" * 41, "b.g", "b g", "größe"])
def test_a_name_is_plain_and_begins_with_a_letter(project: Path, name: str) -> None:
    write(project, f'\n[pools."{name}"]\nslots = 1\n')
    with pytest.raises(SettingsError, match=r"^skipper\.toml:[23]: ") as caught:
        load(project)
    if name != "b.g":  # which is two names
        assert f"pools.{name}: use lower-case letters" in str(caught.value)
        assert str(caught.value).endswith("at most 40, and begin with a letter.")


@pytest.mark.parametrize(
    "name", ["gateway", "gateway-2", "scheduler", "broker", "guard", "launcher", "v", "x-consumer"]
)
def test_the_name_of_another_part_of_the_tree_is_refused(project: Path, name: str) -> None:
    write(project, f"[pools.{name}]\n")
    with pytest.raises(SettingsError) as caught:
        load(project)
    detail = "another part of the tree is called so; choose another name."
    assert str(caught.value) == f"skipper.toml:1: pools.{name}: {detail}"


def test_a_pool_whose_socket_would_have_too_long_a_name_is_refused(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Path("/tmp") / ("x" * 60)
    base.mkdir(exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    write(project, f"[pools.{'a' * 40}]\n")
    settings, _ = load(project)
    with pytest.raises(
        SettingsError, match=r"pools\.a+: its socket .* give the pool a shorter one"
    ):
        make_run_dir(settings)
    base.rmdir()
