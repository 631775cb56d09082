from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from pipeline.api.app import create_app
from pipeline.settings import Settings
from tests.api.parts import Parts, memory_parts
from tests.live_cluster import LiveCluster
from tests.prepared import ADMIN_KEY, prepared

URL = "https://example.com/hook"


@dataclass
class Api:
    """The application, asked in memory."""

    client: httpx.AsyncClient

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200, **more: Any) -> Any:
        """The decoded answer, which must have this status; problems must be of their own media type."""
        given = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        answer = await self.client.request(method, path, **given, **more)
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
        return answer.json() if answer.content else None

    async def get(self, path: str, status: int = 200, **more: Any) -> Any:
        """GET."""
        return await self.ask("GET", path, None, status, **more)

    async def post(self, path: str, body: Any = None, status: int = 201) -> Any:
        """POST."""
        return await self.ask("POST", path, body, status)

    async def patch(self, path: str, body: Any, status: int = 200) -> Any:
        """PATCH."""
        return await self.ask("PATCH", path, body, status)

    def using(self, key: str) -> Api:
        """The same application, asked with another key."""
        headers = {"Authorization": f"Bearer {key}"}
        return Api(httpx.AsyncClient(transport=self.client._transport, base_url="http://api", headers=headers))

    async def tenant(self, profile: str = "standard", tenant: str = "acme", **more: Any) -> str:
        """Make a tenant; the path of its webhooks."""
        await self.post("/v1/tenants", {"id": tenant, "name": tenant, "profile": profile, **more})
        return f"/v1/tenants/{tenant}/webhooks"


def faults(problem: Any) -> dict[str, str]:
    """Field → rule."""
    return {error["field"]: error["rule"] for error in problem["errors"]}


@pytest.fixture
def parts() -> Iterator[Parts]:
    made = memory_parts()
    yield made
    made.deps.log.close()


@pytest.fixture
async def api(parts: Parts) -> AsyncIterator[Api]:
    transport = httpx.ASGITransport(create_app(parts.deps))
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
        yield Api(client)


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return prepared(cluster)
