"""The ledger among several processes, and through a database that goes away."""

from __future__ import annotations

import asyncio
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from skipper.errors import StartError, UnavailableError
from skipper.ledger import (
    deployments,
    events,
    migrate,
    schedules,
    schema,
    tasks,
    totals,
    transitions,
)
from skipper.ledger.connection import Connection, Database, Mark
from skipper.ledger.postgres import PostgresConnection, PostgresDatabase
from skipper.ledger.records import Claiming, NewEvent
from skipper.ledger.schema import ledger_marks
from skipper.ledger.sqlite import SqliteConnection
from skipper.ledger.worker import PendingOperation, Writer
from skipper.task import State, new_id
from skipper.values.value import Value
from tests.blocking import BlockingLedger, submitted, wait_for
from tests.integration.ledger_process import claim_all
from tests.integration.ledgers import (
    Place,
    accepted,
    claimed,
    empty_place,
    finished,
    new_task,
    state_of,
)
from tests.integration.services import Server, private_postgres, wait_until

__all__ = ["empty_place"]

pytestmark = pytest.mark.services
PROGRAM = Path(__file__).with_name("ledger_process.py")
LIMIT_S = 30.0


def started(verb: str, place: Place) -> subprocess.Popen[str]:
    """A process that waits for its first line."""
    process = subprocess.Popen(
        [sys.executable, PROGRAM, verb, place.url, place.schema],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


# --- several processes -----------------------------------------------------------------------


def test_of_two_processes_that_claim_a_task_one_gets_it(empty_place: Place) -> None:
    with empty_place.open() as ledger:
        ids = [accepted(ledger) for _ in range(150)]
        process = started("claim", empty_place)
        with futures.ThreadPoolExecutor(1) as pool:
            theirs = pool.submit(process.communicate, " ".join(ids) + "\n", LIMIT_S)
            ours = wait_for(claim_all(ledger, list(ids)))
            output, _ = theirs.result()
        others = [(line.split()[0], int(line.split()[1])) for line in output.splitlines()]
        assert process.returncode == 0
        assert sorted(ours + others) == [(task_id, 1) for task_id in ids]
        held = [ledger.read_now(lambda conn: tasks.running(conn, "other"))]
        assert sorted(held[0]) == sorted(ours + others)


def test_a_ledger_that_two_processes_open_at_once_is_made_once(empty_place: Place) -> None:
    processes = [started("open", empty_place) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0
    with empty_place.open() as ledger:
        assert state_of(ledger, accepted(ledger)) is State.QUEUED


@pytest.mark.parametrize("branch", [migrate.LEDGER, migrate.EVENTS], ids=lambda each: each.name)
def test_migrations_lead_to_the_schema(
    empty_place: Place, branch: migrate.Branch, tmp_path: Path
) -> None:
    migrated, made = (
        new_store(replace(empty_place, schema=name), tmp_path / f"{name}.db")
        for name in ("migrated", "made")
    )
    for place, bring_about in ((migrated, migrate.upgrade), (made, migrate.make)):
        with sa.create_engine(place).begin() as connection:
            bring_about(connection, branch)
    assert parts(migrated, branch.tables) == parts(made, branch.tables)


def new_store(place: Place, file: Path) -> str:
    """An empty store, as SQLAlchemy names it: ``file``, or the schema of ``place``."""
    if place.is_sqlite:
        file.parent.mkdir(exist_ok=True)
        return f"sqlite:///{file}"
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{place.schema}" CASCADE'.encode())
        connection.execute(f'CREATE SCHEMA "{place.schema}"'.encode())
    return _within(str(place.schema), place)


def test_a_ledger_of_the_first_version_is_brought_up_to_date(empty_place: Place) -> None:
    first = replace(migrate.LEDGER, head="0001")
    url = new_store(empty_place, Path(str(make_url(empty_place.url).database)))
    row = {"id": new_id(), "function": "f.f", "kind": "data", "pool": "cpu", "state": "queued"}
    numbers = ("attempt", "spent", "losses", "priority", "depth", "cancel_requested")
    times = ("created_at", "available_at", "published_at")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        migrate.upgrade(connection, first)
        values = (
            row | dict.fromkeys(numbers, 0) | dict.fromkeys((*times, "max_attempts", "ready"), 1)
        )
        connection.execute(sa.insert(schema.tasks).values(values | {"body": b"[1]"}))
    engine.dispose()
    with empty_place.open() as ledger:
        task = ledger.read_now(lambda conn: tasks.get(conn, row["id"]))
        assert task is not None
        assert (task.state, task.function, task.schedule) == (State.QUEUED, "f.f", None)
        assert ledger.read_now(schedules.present) == []
        claim = claimed(ledger, task.id)
        assert (claim.attempt, claim.input) == (1, Value(inline=b"[1]"))


def test_the_newest_version_of_each_model_serves_on_in_a_ledger_without_deployments(
    empty_place: Place,
) -> None:
    before = replace(migrate.LEDGER, head="0005")
    url = new_store(empty_place, Path(str(make_url(empty_place.url).database)))
    row = {"digest": "d", "format": "tiny", "metrics": "null", "attempt": 1, "function": "f.f"}
    published = [("boston", 1), ("iris", 1), ("boston", 2), ("boston", 3), ("iris", 2)]
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        migrate.upgrade(connection, before)
        for at, (name, version) in enumerate(published):
            made = {"name": name, "version": version, "task_id": new_id(), "created_at": at}
            connection.execute(sa.insert(schema.models).values(row | made))
    engine.dispose()
    with empty_place.open() as ledger:
        boston, iris = ledger.read_now(lambda conn: deployments.changed_since(conn, 0))
        assert (boston.name, boston.production, boston.revision, boston.at) == ("boston", 3, 1, 3.0)
        assert (iris.name, iris.production, iris.revision, iris.at) == ("iris", 2, 1, 4.0)
        back = transitions.promoted(boston, 1)
        deployed = ledger.write_now(lambda conn: deployments.put(conn, back))
        assert deployed is not None
        assert (deployed.production, deployed.previous) == (1, 3)
        assert deployed.seq > iris.seq


_PARTS = {
    "sqlite": "SELECT tbl_name, name, sql FROM sqlite_master WHERE sql IS NOT NULL",
    "postgresql": """
        SELECT tablename, indexname, replace(indexdef, quote_ident(current_schema) || '.', '')
        FROM pg_indexes WHERE schemaname = current_schema
        UNION ALL SELECT table_name, column_name, concat_ws(
            ' ', ordinal_position, data_type, is_nullable, collation_name, column_default
        ) FROM information_schema.columns WHERE table_schema = current_schema
        UNION ALL SELECT relname, 'options', reloptions::text FROM pg_class
        WHERE relnamespace = current_schema::regnamespace AND relkind = 'r'
    """,
}


def parts(url: str, tables: sa.MetaData) -> set[tuple[str, str, str]]:
    """Everything that the database at ``url`` says of ``tables``."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(_PARTS[engine.dialect.name]).all()
    engine.dispose()
    found = {(table, name, _plain(str(text))) for table, name, text in rows}
    return {part for part in found if part[0] in tables.tables}


def _plain(text: str) -> str:
    """Without the white space that means nothing."""
    return re.sub(r" ?([(),]) ?", r"\1", " ".join(text.split()))


def test_events_from_before_attempts_were_noted_are_kept(empty_place: Place) -> None:
    empty_place.open().close()
    file = Path(str(make_url(empty_place.url).database)).with_name("events.db")
    url = f"sqlite:///{file}" if empty_place.is_sqlite else _within(empty_place.schema, empty_place)
    with sa.create_engine(url).begin() as connection:
        for text in (
            "ALTER TABLE events DROP COLUMN attempt",
            "ALTER TABLE events DROP COLUMN number",
            "UPDATE events_version SET version_num = '0001'",
            "INSERT INTO events (task_id, at, type, data) VALUES ('a', 1.0, 'log', '{}')",
        ):
            connection.exec_driver_sql(text)
    row = NewEvent(task_id="a", attempt=2, number=1, at=2.0, type="log", data={})
    with empty_place.open() as ledger:
        ledger.record_now(lambda conn: events.append(conn, [row]))
        found = ledger.read_events_now(lambda conn: events.after(conn, "a", 0, 10).events)
    assert [(event.attempt, event.number) for event in found] == [(0, 0), (2, 1)]


def _within(schema: str, place: Place) -> str:
    """A URL whose search path is ``schema``."""
    url = place.url.replace("postgresql:", "postgresql+psycopg:")
    return f"{url}?options=-csearch_path%3D{schema}"


def test_a_ledger_that_is_up_to_date_is_opened_without_alembic(empty_place: Place) -> None:
    empty_place.open().close()
    code = (
        "import sys; from skipper.ledger import Ledger; "
        f"Ledger.open({empty_place.url!r}, schema={empty_place.schema!r}).close(); "
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_projects_share_a_database(postgres_url: str) -> None:
    with (
        Place(postgres_url, "skipper_one").open() as one,
        Place(postgres_url, "skipper_two").open() as two,
    ):
        task_id = accepted(one)
        assert two.read_now(lambda conn: tasks.get(conn, task_id)) is None


# --- one file --------------------------------------------------------------------------------


def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with BlockingLedger.open(f"sqlite:///{folder / 'ledger.db'}") as ledger:
        accepted(ledger)
        ledger.record_now(lambda conn: None)
        files = [file for file in folder.iterdir() if file.is_file()]
        assert {"ledger.db", "ledger.db-wal", "events.db"} <= {file.name for file in files}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_commit_waits_for_the_disk_unless_told_otherwise(tmp_path: Path) -> None:
    BlockingLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}").close()
    connection = SqliteConnection(tmp_path / "ledger.db", is_relaxed=False)
    for is_durable, level in ((True, 2), (False, 1), (True, 2)):
        connection.begin(Mark("w", 1, is_durable))
        assert connection._driver.execute("PRAGMA synchronous").fetchone() == (level,)
        connection.commit()
    connection.close()


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    with BlockingLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        task_id = accepted(ledger)
        other = SqliteConnection(tmp_path / "ledger.db", is_relaxed=False)
        other.begin(Mark("w", 1, True))
        tasks.cancel(other, task_id, 1.0)
        assert state_of(ledger, task_id) is State.QUEUED
        other.commit()
        assert state_of(ledger, task_id) is State.CANCELLED
        other.close()


def test_a_file_that_stays_locked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skipper.ledger.sqlite.BUSY_TIMEOUT_S", 0.05)
    with BlockingLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        other = SqliteConnection(tmp_path / "ledger.db", is_relaxed=False)
        other.begin(Mark("w", 1, True))
        with pytest.raises(UnavailableError, match="locked"):
            accepted(ledger)
        other.rollback()
        other.close()
        accepted(ledger)


def test_tables_of_a_newer_skipper_are_left_alone(empty_place: Place) -> None:
    empty_place.open().close()
    if empty_place.is_sqlite:
        engine = sa.create_engine(empty_place.url)
    else:
        engine = sa.create_engine(empty_place.url.replace("postgresql:", "postgresql+psycopg:"))
    table = "ledger_version" if empty_place.is_sqlite else f'"{empty_place.schema}".ledger_version'
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {table} SET version_num = '9999'")
    with pytest.raises(StartError, match="9999"):
        empty_place.open()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="cannot be used") as caught:
        BlockingLedger.open(f"sqlite:///{tmp_path / 'file' / 'ledger.db'}")
    assert caught.value.code == 10


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("This is not a database, it is a letter to my aunt.")
    with pytest.raises(StartError, match="not a database"):
        BlockingLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}")


@pytest.mark.parametrize("url", ["nonsense", "mysql://localhost/x", "sqlite://"])
def test_a_url_that_names_no_ledger_is_told(url: str) -> None:
    with pytest.raises(StartError):
        BlockingLedger.open(url)


# --- a server --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with private_postgres() as server:
        yield server


def test_no_server_is_told(server: Server) -> None:
    with pytest.raises(StartError, match="cannot be used") as caught:
        BlockingLedger.open("postgresql://nobody:secret@127.0.0.1:1/none", patience_s=0.1)
    assert caught.value.code == 9
    assert "secret" not in str(caught.value)
    with pytest.raises(StartError, match="does not exist"):
        BlockingLedger.open(server.url.replace("/postgres", "/missing"))


async def test_a_restart_of_the_server_loses_and_doubles_nothing(server: Server) -> None:
    """Writers go on through a kill of the server: all succeed, and each once."""
    place = Place(server.url, "skipper_restart")
    ledger = await asyncio.to_thread(place.open, patience_s=LIMIT_S)
    ids: list[str] = []
    is_over = asyncio.Event()

    async def submit() -> None:
        while not is_over.is_set():
            accepted = await ledger.merge(tasks.accept_all, new_task())
            ids.append(accepted.id)
            wish = Claiming(ids=(accepted.id,), host="h", now=time.time())
            claims = await ledger.merge(tasks.claim_all, wish)
            assert [claim.attempt for claim in claims] == [1]

    submitters = [asyncio.create_task(submit()) for _ in range(8)]
    for _ in range(2):
        await asyncio.to_thread(_wait_for_more, ids)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await ledger.read(tasks.counts)
    is_over.set()
    await asyncio.gather(*submitters)
    running = await ledger.read(lambda conn: tasks.running(conn, "h"))
    assert sorted(running) == sorted((task_id, 1) for task_id in ids)
    await asyncio.to_thread(ledger.close)


def _wait_for_more(ids: list[str]) -> None:
    enough = len(ids) + 100
    wait_until(lambda: len(ids) >= enough, LIMIT_S)


def test_a_server_that_stays_away_is_told_and_found_again(server: Server) -> None:
    with Place(server.url, "skipper_away").open(patience_s=0.2) as ledger:
        task_id = accepted(ledger)
        server.stop()
        with pytest.raises(UnavailableError):
            accepted(ledger)
        with pytest.raises(UnavailableError):
            state_of(ledger, task_id)
        server.start()
        accepted(ledger)
        assert state_of(ledger, task_id) is State.QUEUED


class DroppedConnection(PostgresConnection):
    """Loses its server at its first commit: before it, or after it and before the answer."""

    is_answered = True
    is_done = False

    def commit(self) -> None:
        if type(self).is_answered:
            return super().commit()
        type(self).is_answered = True
        if type(self).is_done:
            super().commit()
        self._driver.close()
        raise psycopg.OperationalError("the connection is lost")


class DroppingDatabase(PostgresDatabase):
    def connect(self) -> Connection:
        connection = super().connect()
        assert isinstance(connection, PostgresConnection)
        return DroppedConnection(connection._driver, self.schema, self._marks)


@pytest.mark.parametrize("is_done", [True, False])
def test_a_commit_without_an_answer_is_done_once(postgres_url: str, is_done: bool) -> None:
    place = Place(postgres_url, "skipper_dropped")
    with place.open() as ledger:
        task_id = accepted(ledger)
        url = make_url(postgres_url).set(drivername="postgresql+psycopg")
        database: Database = DroppingDatabase(url, place.schema, ledger_marks)
        writer = Writer(database, "dropped", patience_s=LIMIT_S, finisher=totals.flush)
        DroppedConnection.is_answered, DroppedConnection.is_done = False, is_done
        job = PendingOperation(lambda conn: tasks.claim(conn, [task_id], "h", time.time()))
        (claim,) = submitted(writer, job).result(LIMIT_S)
        assert claim.attempt == 1
        writer.close()
        assert state_of(ledger, task_id) is State.RUNNING
        assert finished(ledger, claim) is State.SUCCEEDED


def test_a_transaction_that_an_operation_spoiled_is_not_taken_for_committed(
    postgres_url: str,
) -> None:
    def spoil(conn: Connection) -> None:
        assert isinstance(conn, PostgresConnection)
        with pytest.raises(psycopg.Error):
            conn._driver.execute("SELECT 1 / 0")

    with Place(postgres_url, "skipper_spoiled").open() as ledger:
        with pytest.raises(psycopg.Error, match="ROLLBACK"):
            ledger.write_now(spoil)
        assert claimed(ledger, accepted(ledger)).attempt == 1
