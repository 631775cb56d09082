"""Opening the log's database: where it is, how its connections are set, its tables brought up to this version's."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pipeline.errors import SettingsError, Unreachable
from pipeline.settings import Settings

_WAIT_S = 60
"""How long a writer waits for another one's transaction."""
_AGAIN_S = 0.01
_CONNECT_S = 10
_READERS = 40
_CACHE_KIB = {"writer": 131_072, "reader": 8_192}
_CHECKPOINT_PAGES = 16_384
"""64 MiB of log before it is brought home: pages that change again and again are written once."""
_UPGRADING = 7_163_902_441
"""The advisory lock that PostgreSQL holds while tables are brought up: any number that is ours alone."""


_bringing_up = threading.Lock()


@dataclass(frozen=True, slots=True)
class Engines:
    """One connection that writes, and some that can only read."""

    writer: Engine
    reader: Engine

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.writer.dialect.name

    def close(self) -> None:
        """Let go of the database."""
        self.reader.dispose()
        self.writer.dispose()


def log_url(settings: Settings) -> str:
    """Where the log is: `PIPELINE_DATABASE_URL`, else a file `log.sqlite` in the data directory."""
    file = URL.create("sqlite", database=str(settings.data_dir.absolute() / "log.sqlite"))
    return settings.database_url or file.render_as_string()


def opened(url: str) -> Engines:
    """Connections to a database whose tables are this version's. Raises `SettingsError` and `Unreachable`."""
    place = _place(url)
    engines = _sqlite(place) if place.get_backend_name() == "sqlite" else _postgresql(place)
    try:
        with answering():
            _bring_up(engines)
    except BaseException:
        engines.close()
        raise
    return engines


@contextmanager
def answering() -> Iterator[None]:
    """What a database says that is not there, is full or is held up by others, in the words that callers know."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise Unreachable(f"the delivery log's database does not answer: {_first_line(error.orig)}") from error
    except PoolTimeoutError as error:
        raise Unreachable("the delivery log's database does not answer: all connections are at work") from error


def _place(url: str) -> URL:
    try:
        place = make_url(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url)
    except ArgumentError:
        place = None
    match None if place is None else place.drivername:
        case "sqlite" if place is not None and place.database not in {None, "", ":memory:"}:
            return place
        case "postgresql" | "postgresql+psycopg" if place is not None:
            return place.set(drivername="postgresql+psycopg")
        case _:
            raise SettingsError(
                "PIPELINE_DATABASE_URL: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME is needed"
            )


def _postgresql(place: URL) -> Engines:
    options: dict[str, Any] = {"module": psycopg, "hide_parameters": True, "pool_pre_ping": True}
    options["connect_args"] = {"connect_timeout": _CONNECT_S}
    reader = create_engine(place, pool_size=5, max_overflow=_READERS - 5, **options)
    event.listen(reader, "connect", _only_reading)
    writer = create_engine(place, pool_size=1, max_overflow=1, **options)  # one more to vacuum with, beside
    return Engines(writer, reader)


def _only_reading(connection: Any, _record: object) -> None:
    connection.read_only = True


def _sqlite(place: URL) -> Engines:
    file = Path(place.database or "")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise SettingsError(f"the delivery log {file} cannot be opened: {error.strerror}") from error
    options: dict[str, Any] = {"hide_parameters": True, "connect_args": {"timeout": _WAIT_S, "isolation_level": None}}
    writer = create_engine(place, pool_size=1, max_overflow=0, paramstyle="named", **options)
    reader = create_engine(place, pool_size=5, max_overflow=_READERS - 5, **options)
    event.listen(writer, "connect", _set_writer)
    event.listen(writer, "begin", _begin_at_once)
    event.listen(reader, "connect", _set_reader)
    event.listen(reader, "begin", _begin)
    return Engines(writer, reader)


def _set_writer(connection: sqlite3.Connection, _record: object) -> None:
    """`NORMAL`: the process may die at any moment, nothing is lost. When the machine dies the last transactions may be.

    Then the log is behind what is committed in Kafka. `positions` tell, since they are written with the rows; and the
    log can be made again from the topics. To wait for the disk at every batch would cost more than that is worth.
    """
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts only while the file is empty
    _into_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB['writer']}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_CHECKPOINT_PAGES * 4096}")


def _into_wal(connection: sqlite3.Connection) -> None:
    """Asked again while another process is turning the file: there SQLite says at once that it is locked."""
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(_AGAIN_S)
        else:
            return


def _set_reader(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB['reader']}")


def _begin_at_once(connection: Connection) -> None:
    """Another writer is waited for here, where nothing has been read yet: later SQLite would refuse."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _bring_up(engines: Engines) -> None:
    """One process at a time, and one thread, for Alembic knows of one; the others find the work done."""
    config = Config()
    config.set_main_option("script_location", _escaped(Path(__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    with _bringing_up, engines.writer.begin() as connection:
        if engines.dialect == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADING})"))
        held = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in scripts.walk_revisions()}
        if held is not None and held not in known:
            raise SettingsError(
                f"the delivery log's database is of a newer version ({held}): run that version, or give "
                "PIPELINE_DATABASE_URL another database and rebuild the log from the topics"
            )
        if held != scripts.get_current_head():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _first_line(error: BaseException | None) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")
