"""Finding a function while files are being read; what files do to it is in test_reload.py."""

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
    catalogue.versions["f.f"] = version = version_of("f.f")
    catalogue.wake()
    assert await asyncio.wait_for(finding, 0.5) is version


async def test_a_function_that_no_file_may_bring_any_more_is_not_waited_for(
    catalogue: Catalogue,
) -> None:
    catalogue.loading = {"f", "g"}
    finding = asyncio.create_task(catalogue.find("f.f"))
    await asyncio.sleep(0)
    catalogue.loading = {"g"}
    catalogue.wake()
    assert await asyncio.wait_for(finding, 0.5) is None
