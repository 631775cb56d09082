from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from pipeline.store.log import DeliveryLog, open_log
from tests.debian_packages import Missing
from tests.store.log.postgresql import running

KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The run's one PostgreSQL: the URL of its first database."""
    with suppress(Missing), running() as url:
        yield url
        return
    pytest.skip("no PostgreSQL can be had here: install Debian's package postgresql")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fresh(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes empty databases, and gives their URLs."""
    made: list[str] = []

    def database() -> str:
        name = f"log_{len(made)}"
        made.append(name)
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/{name}.sqlite"
        server: str = request.getfixturevalue("postgresql")
        _execute(server, f"CREATE DATABASE {name}")
        return server.replace("/postgres?", f"/{name}?")

    yield database
    if kind == "postgresql":
        for name in made:
            _execute(request.getfixturevalue("postgresql"), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def url(fresh: Callable[[], str]) -> str:
    """An empty database."""
    return fresh()


@pytest.fixture(scope="session")
def sqlite_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeliveryLog]:
    with closing(open_log(f"sqlite:///{tmp_path_factory.mktemp('log')}/log.sqlite")) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgresql_log(postgresql: str) -> Iterator[DeliveryLog]:
    with closing(open_log(postgresql)) as opened:
        yield opened


@pytest.fixture
def log(kind: str, request: pytest.FixtureRequest) -> DeliveryLog:
    """An empty log."""
    opened: DeliveryLog = request.getfixturevalue(f"{kind}_log")
    opened.clear()
    return opened


def _execute(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)
