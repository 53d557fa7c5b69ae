"""Finding functions; what files do to them is in test_reload.py."""

import asyncio
from pathlib import Path

import pytest

from skipper.pool.catalogue import Catalogue
from skipper.pool.processes.quarantine import Quarantine
from skipper.settings.model import Settings
from tests.unit.pool.played import version_of


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(Settings(project_dir=Path("/project")), "cpu", Quarantine())


@pytest.mark.parametrize("loading", ["*", "f"])
async def test_a_function_whose_file_is_being_read_is_waited_for(
    catalogue: Catalogue, loading: str
) -> None:
    catalogue.loading = {loading}
    finding = asyncio.create_task(catalogue.find("f.f"))
    await asyncio.sleep(0)
    version = version_of("f.f")
    catalogue.assign(version)
    catalogue.publish()
    assert await asyncio.wait_for(finding, 0.5) is version


async def test_a_function_that_no_file_may_bring_any_more_is_not_waited_for(
    catalogue: Catalogue,
) -> None:
    catalogue.loading = {"f", "g"}
    finding = asyncio.create_task(catalogue.find("f.f"))
    await asyncio.sleep(0)
    catalogue.loading = {"g"}
    catalogue.publish()
    assert await asyncio.wait_for(finding, 0.5) is None


async def test_of_the_versions_of_a_function_the_one_that_was_assigned_last_is_found(
    catalogue: Catalogue,
) -> None:
    old, new, other = version_of("f.f"), version_of("f.f", code="beef"), version_of("f.g")
    for version in (old, new, other):
        catalogue.assign(version)
    assert await catalogue.find("f.f") is new
    assert catalogue.superseded("f.f") == [old]
    before = catalogue.assigned["f.f"]
    catalogue.assign(old)
    assert await catalogue.find("f.f") is old
    assert catalogue.assigned["f.f"].seq > before.seq > 0
    assert catalogue.superseded("f.f") == [new]
    assert catalogue.versions == [old, other]


async def test_a_version_that_is_retired_is_not_live_and_the_assigned_one_takes_its_function_along(
    catalogue: Catalogue,
) -> None:
    old, new = version_of("f.f"), version_of("f.f", code="beef")
    catalogue.loading = set()
    for version in (old, new):
        catalogue.assign(version)
    catalogue.retire(old)
    assert catalogue.superseded("f.f") == []
    assert await catalogue.find("f.f") is new
    catalogue.retire(new)
    assert await catalogue.find("f.f") is None
    assert catalogue.versions == []


@pytest.mark.parametrize(
    ("served", "trainers"),
    [
        (["boston.train", "iris.train"], ["boston.train"]),
        (["boston.train", "boston.tune", "iris.train"], ["boston.train", "boston.tune"]),
        (["iris.train"], ["iris.train"]),
        ([], []),
    ],
)
def test_what_trains_models_is_looked_for_beside_who_wants_one_first(
    catalogue: Catalogue, served: list[str], trainers: list[str]
) -> None:
    catalogue.assign(version_of("boston.predict"))
    for name in served:
        catalogue.assign(version_of(name, kind="training"))
    assert catalogue.trainers("boston") == trainers
