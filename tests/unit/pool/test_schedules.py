"""A host tells the ledger which schedules its functions have, in their code or in the settings."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from skipper.cron import Timetable
from skipper.ledger import schedules
from skipper.ledger.records import Declaration, Schedule
from skipper.pool.catalogue import Catalogue
from skipper.pool.processes.version import FunctionVersion
from skipper.pool.schedules import Schedules, changed, gone, wanted
from skipper.settings.model import ScheduleSettings, Settings
from tests.blocking import BlockingLedger
from tests.unit.pool.played import spec_of, version_of

NIGHTLY = Timetable(cron="0 3 * * *", timezone="Europe/Vilnius")


def table(function: str = "f.train", **given: Any) -> ScheduleSettings:
    return ScheduleSettings(function=function, **{"cron": "0 4 * * *"} | given)


def declared(function: str = "f.train", **given: Any) -> Declaration:
    spec = spec_of(function, kind="training", schedule=NIGHTLY)
    return replace(wanted([spec], {})[0], **given)


def stored(declaration: Declaration, **given: Any) -> Schedule:
    usual = {"is_paused": False, "next_at": 1.0, "last_at": None, "last_task_id": None}
    return Schedule(declared=declaration, **{**usual, "gone_at": None, **given})


# --- what is wanted ---


def test_a_function_brings_the_schedule_of_its_code_and_those_of_the_settings() -> None:
    spec = spec_of(
        "f.train", kind="training", pool="gpu", schedule=NIGHTLY, retries=2, timeout_s=60.0
    )
    plain = spec_of("f.predict")
    tables = {
        "weekly": table(body={"epochs": 5}, paused=True, missed="all"),
        "other": table("g.train"),
    }
    found = {each.name: each for each in wanted([spec, plain], tables)}
    assert set(found) == {"f.train", "weekly"}
    code, weekly = found["f.train"], found["weekly"]
    assert (code.cron, code.timezone, code.body, code.origin) == (
        "0 3 * * *",
        "Europe/Vilnius",
        b"",
        "code",
    )
    assert (weekly.cron, weekly.missed, weekly.body) == ("0 4 * * *", "all", b'{"epochs":5}')
    assert (weekly.origin, weekly.starts_paused) == ("settings", True)
    for each in (code, weekly):
        assert (each.function, each.kind, each.pool) == ("f.train", "training", "gpu")
        assert (each.max_attempts, each.timeout_s) == (3, 60.0)


# --- what has to be written ---


@pytest.mark.parametrize(
    ("before", "is_written"),
    [
        ([], True),
        ([stored(declared())], False),
        ([stored(declared(), is_paused=True, last_task_id="t")], False),
        ([stored(declared(cron="0 5 * * *"))], True),
        ([stored(declared(max_attempts=9))], True),
        ([stored(declared(), gone_at=1.0)], True),
    ],
)
def test_only_what_differs_is_written(before: list[Schedule], is_written: bool) -> None:
    assert changed(before, [declared()]) == ((declared(),) if is_written else ())


WEEKLY = declared("f.train", name="weekly", origin="settings")


@pytest.mark.parametrize(
    ("old", "tables", "unsettled", "is_gone"),
    [
        (declared("f.old"), [], [], True),
        (declared("f.old"), [], ["g"], True),
        (declared("f.old"), [], ["f"], False),
        (declared("f.old"), [], ["*"], False),
        (declared("f.train"), [], [], False),
        (WEEKLY, ["weekly"], [], True),  # its function is gone
        (WEEKLY, ["weekly"], ["f"], False),
        (WEEKLY, [], ["f", "*"], True),  # the settings do not have it any more
    ],
)
def test_what_nobody_declares_is_gone_unless_its_file_may_bring_it_yet(
    old: Declaration, tables: list[str], unsettled: list[str], is_gone: bool
) -> None:
    found = gone([stored(old)], [declared("f.train")], tables, unsettled)
    assert found == ((old.name,) if is_gone else ())


def test_what_is_gone_already_does_not_go_again() -> None:
    assert gone([stored(declared("f.old"), gone_at=1.0)], [], [], []) == ()


# --- as the catalogue changes ---


class Files:
    """A catalogue whose content the test sets."""

    def __init__(self, *versions: FunctionVersion, unsettled: set[str] | None = None) -> None:
        self.versions = [*versions]
        self.unsettled = unsettled or set()


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[BlockingLedger]:
    with BlockingLedger.open(ledger_url) as opened:
        yield opened


def recorder(
    ledger: BlockingLedger, files: Files, pool: str = "cpu", **tables: ScheduleSettings
) -> Schedules:
    settings = Settings(project_dir=Path("/project"), schedules=tables)
    return Schedules(ledger, settings, pool, cast(Catalogue, files))


def names(ledger: BlockingLedger) -> list[str]:
    return [each.declared.name for each in ledger.read_now(schedules.present)]


async def test_schedules_come_and_go_with_their_functions(ledger: BlockingLedger) -> None:
    files = Files(version_of("f.train", schedule=NIGHTLY), version_of("f.plain"))
    schedules_ = recorder(ledger, files, weekly=table())
    await schedules_.record()
    assert names(ledger) == ["f.train", "weekly"]
    specs = [version.spec for version in files.versions]
    assert changed(ledger.read_now(schedules.present), wanted(specs, {"weekly": table()})) == ()
    files.versions = [each for each in files.versions if each.name != "f.train"]
    files.unsettled = {"f"}
    files.versions.append(version_of("g.train", schedule=NIGHTLY))
    await schedules_.record()
    assert names(ledger) == ["f.train", "g.train", "weekly"]
    files.unsettled = set()
    await schedules_.record()
    assert names(ledger) == ["g.train"]


async def test_a_pool_lets_the_schedules_of_others_be(ledger: BlockingLedger) -> None:
    gpu = Files(version_of("f.train", schedule=NIGHTLY, pool="gpu"))
    await recorder(ledger, gpu, "gpu").record()
    await recorder(ledger, Files(version_of("g.train", schedule=NIGHTLY))).record()
    assert names(ledger) == ["f.train", "g.train"]


async def test_schedules_of_a_pool_that_the_project_has_no_longer_go_with_it(
    ledger: BlockingLedger,
) -> None:
    big = Files(version_of("f.train", schedule=NIGHTLY, pool="big"))
    await recorder(ledger, big, "big").record()
    await recorder(ledger, Files(unsettled={"f"})).record()  # its file is told as broken
    assert names(ledger) == ["f.train"]
    await recorder(ledger, Files()).record()
    assert names(ledger) == []


async def test_a_function_that_moves_to_another_pool_stays_paused(ledger: BlockingLedger) -> None:
    on_cpu, on_gpu = (version_of("f.train", schedule=NIGHTLY, pool=pool) for pool in ("cpu", "gpu"))
    await recorder(ledger, Files(on_cpu)).record()
    ledger.write_now(lambda conn: schedules.pause(conn, "f.train"))
    await recorder(ledger, Files()).record()
    assert names(ledger) == []
    await recorder(ledger, Files(on_gpu), "gpu").record()
    (moved,) = ledger.read_now(schedules.present)
    assert (moved.declared.pool, moved.is_paused) == ("gpu", True)
