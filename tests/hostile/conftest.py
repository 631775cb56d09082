"""The clients of the egress tests, on uvloop as the product runs."""

from __future__ import annotations

from tests.http.conftest import authority, ca_file, client, make_client, pytest_asyncio_loop_factories

__all__ = ["authority", "ca_file", "client", "make_client", "pytest_asyncio_loop_factories"]
