"""The REST API, as the bench asks it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Api:
    """The one on that port, asked with this key."""

    port: int
    key: str

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer. Raises `RuntimeError` when it is no success."""
        where, headers = f"http://127.0.0.1:{self.port}", {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=where, headers=headers, trust_env=False, timeout=_TIMEOUT_S) as client:
            answer = await client.request(method, path, json=body)
        if not answer.is_success:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()


def iso(at_s: float) -> str:
    """A time as the API takes it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
