"""How the log's database is opened, and brought up, by several processes at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

from pipeline.errors import SettingsError, Unreachable
from pipeline.settings import Settings
from pipeline.store.log import DeliveryFilter, DeliveryLog, log_url, open_log
from pipeline.store.log.opening import _into_wal
from pipeline.store.log.tables import metadata
from tests.store.log.entries import TENANT, attempt, delivery, event

pytestmark = pytest.mark.contract

WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pipeline.store.log import open_log
from tests.store.log.entries import attempt, delivery
print("here")
input()
log, mine = open_log(sys.argv[1]), int(sys.argv[2])
for batch in range(5):
    numbers, turn = range(400)[:: 1 if mine % 2 else -1], batch * 3 + mine
    log.write([attempt(n, offset=turn, attempt=turn) for n in numbers] + [delivery(n) for n in numbers])
"""


def test_tables_are_those_of_the_code(url: str) -> None:
    """What the migrations make is what the code speaks of, to the last column."""
    with closing(open_log(url)) as log, log._engines.writer.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_log_is_there_again_when_it_is_opened_again(url: str) -> None:
    """Opening brings up what is missing, and nothing else."""
    with closing(open_log(url)) as log:
        log.write([event()])
    with closing(open_log(url)) as log:
        assert log.event(TENANT, "evt_1") is not None


def test_writers_at_once(url: str) -> None:
    """Several processes open an empty database and write the same deliveries: they wait for each other."""
    processes = [_waiting(url, mine) for mine in range(1, 4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert (process.communicate(timeout=120)[1], process.returncode) == ("", 0)
    with closing(open_log(url)) as log:
        assert len(log.deliveries(TENANT, DeliveryFilter(), None, 500).items) == 400
        assert {row.attempts for row in log.deliveries(TENANT, DeliveryFilter(), None, 500).items} == {15}
        assert [len(log.attempts(TENANT, f"msg_{n}")) for n in (0, 399)] == [15, 15]


def _waiting(url: str, mine: int) -> subprocess.Popen[str]:
    """A process that has all but begun."""
    pipe, command = subprocess.PIPE, (sys.executable, "-u", "-c", WRITER, url, str(mine))
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def test_readers_do_not_wait(url: str) -> None:
    """While a batch is being written, lists are read as they were before it."""
    with closing(open_log(url)) as log:
        log.write([event()])
        with log._transaction() as connection:
            connection.execute(metadata.tables["events"].delete())
            assert log.event(TENANT, "evt_1") is not None
        assert log.event(TENANT, "evt_1") is None


def test_readers_cannot_write(log: DeliveryLog) -> None:
    """Whatever a query's text is made to say, it changes nothing."""
    with log._engines.reader.connect() as connection, pytest.raises(DBAPIError, match=r"read-?only"):
        connection.exec_driver_sql("DELETE FROM events")


def test_file_that_another_process_is_turning_to_wal(tmp_path: Path) -> None:
    """Is waited for: SQLite itself says at once that it is locked, however long its own patience is."""
    file = tmp_path / "log.sqlite"
    mine, other = (sqlite3.connect(file, isolation_level=None, check_same_thread=False) for _ in range(2))
    with closing(mine), closing(other), ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        turning = pool.submit(_into_wal, mine)
        with pytest.raises(TimeoutError):
            turning.result(timeout=0.3)
        other.execute("ROLLBACK")
        turning.result(timeout=60)
        assert mine.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_threads_share_a_log(log: DeliveryLog) -> None:
    """Batches of several threads follow one another."""
    threads = [Thread(target=log.write, args=([delivery(n), attempt(n, offset=n)],)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.deliveries(TENANT, DeliveryFilter(), None, 50).items) == 20


def test_threads_open_logs_at_once(tmp_path: Path) -> None:
    """Each is brought up, as if the others were not there."""
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda n: open_log(f"sqlite:///{tmp_path}/{n}.sqlite"), range(8)))
    for log in opened:
        assert log.positions() == {}
        log.close()


def test_newer_database_is_refused(url: str) -> None:
    """What a newer version has brought up is not touched; the error says which way out there is, and no password."""
    with closing(open_log(url)) as log, log._engines.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9999'")
    with pytest.raises(
        SettingsError, match=r"newer version \(v9999\): run that version, or give PIPELINE_DATABASE_URL"
    ):
        open_log(url)


@pytest.mark.parametrize(
    "url", ["mysql://u:canary@h/d", "canary", "sqlite://", "sqlite:///:memory:", "postgresql+psycopg2://u:canary@h/d"]
)
def test_other_databases_are_refused(url: str) -> None:
    """Two kinds are known; the refusal does not repeat what was given, there may be a password in it."""
    with pytest.raises(SettingsError, match=r"PIPELINE_DATABASE_URL: sqlite:///FILE or postgresql://") as refusal:
        open_log(url)
    assert "canary" not in str(refusal.value)


def test_database_that_is_not_there(tmp_path: Path) -> None:
    """Is worth another try; the words say what the database's own do, without the password."""
    with pytest.raises(Unreachable, match="log's database does not answer: ") as refusal:
        open_log(f"postgresql://log:canary@/log?host={tmp_path}")
    assert "canary" not in str(refusal.value)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the way is named."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"file/log\.sqlite cannot be opened"):
        open_log(f"sqlite:///{tmp_path}/file/log.sqlite")


def test_sqlite_file_is_its_owners(tmp_path: Path) -> None:
    """Answers of endpoints are in it; a path may hold any sign."""
    file = tmp_path / "a%20 b" / "log.sqlite"
    with closing(open_log(log_url(Settings(data_dir=file.parent)))) as log:
        log.write([event()])
        assert {(f.name, f.stat().st_mode & 0o777) for f in file.parent.iterdir()} == {
            (f"log.sqlite{end}", 0o600) for end in ("", "-wal", "-shm")
        }


def test_setting_says_where() -> None:
    """A URL that is given is taken as it is."""
    assert log_url(Settings(database_url="postgresql://h/d")) == "postgresql://h/d"


def test_batch_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A SQLite file that another program keeps is like a database that does not answer."""
    url = f"sqlite:///{tmp_path}/log.sqlite"
    with closing(open_log(url)) as log, closing(open_log(url)) as other:
        with other._engines.writer.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 10")
        with log._transaction(), pytest.raises(Unreachable, match="database is locked"):
            other.write([event()])
