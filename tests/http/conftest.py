"""Everything here runs on uvloop, as the product does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from pipeline.http.client import DeliveryClient
from pipeline.http.guard import EgressPolicy

LOOPBACK = EgressPolicy.parse("127.0.0.0/8")

MakeClient = Callable[..., DeliveryClient]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], Any]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    """Clients that are closed after the test."""
    made: list[DeliveryClient] = []

    def make(policy: EgressPolicy = LOOPBACK, **options: Any) -> DeliveryClient:
        made.append(DeliveryClient(policy, **options))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
async def client(make_client: MakeClient) -> DeliveryClient:
    """A client that may reach 127.0.0.0/8."""
    return make_client()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's certificate in a file, as an operator would name it."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path
