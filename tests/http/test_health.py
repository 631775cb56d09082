"""Health and metrics over real HTTP."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from prometheus_client import CollectorRegistry, Counter

from pipeline.http.health import HealthServer


async def get(port: int, path: str) -> tuple[int, str, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), head.decode(), body


async def test_readiness_tells_its_reasons() -> None:
    """Readiness is 503 with every reason until there is none, while the process is alive all along."""
    reasons = ["the broker does not answer", "the view is not there"]
    async with HealthServer("127.0.0.1", 0, lambda: reasons, CollectorRegistry()) as server:
        status, _, body = await get(server.port, "/readyz")
        assert (status, json.loads(body)) == (503, {"ready": False, "reasons": reasons, "warnings": []})
        assert (await get(server.port, "/healthz"))[0] == 200
        reasons.clear()
        status, _, body = await get(server.port, "/readyz")
        assert (status, json.loads(body)) == (200, {"ready": True, "reasons": [], "warnings": []})


async def test_a_warning_is_told_and_takes_no_readiness() -> None:
    """What an operator should see to is in the answer, whose status it does not change."""
    look = "half of the events' time is over"
    async with HealthServer("127.0.0.1", 0, list, CollectorRegistry(), lambda: [look]) as server:
        status, _, body = await get(server.port, "/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "reasons": [], "warnings": [look]})


async def test_metrics_are_those_of_the_registry() -> None:
    """Metrics are the registry's, in Prometheus's text format."""
    registry = CollectorRegistry()
    Counter("attempts", "Attempts", registry=registry).inc(3)
    async with HealthServer("127.0.0.1", 0, list, registry) as server:
        status, head, body = await get(server.port, "/metrics")
    assert status == 200
    assert "text/plain; version=" in head
    assert b"attempts_total 3.0" in body


async def test_requests_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Probes, which come every second, leave no line in the log."""
    caplog.set_level(logging.INFO)
    async with HealthServer("127.0.0.1", 0, list, CollectorRegistry()) as server:
        await get(server.port, "/healthz")
    assert not [record for record in caplog.records if "healthz" in record.getMessage()]


async def test_taken_port_is_an_error() -> None:
    """A port that is taken is an error at the start, and nothing is left open."""
    async with HealthServer("127.0.0.1", 0, list, CollectorRegistry()) as server:
        with pytest.raises(OSError, match="in use"):
            await HealthServer("127.0.0.1", server.port, list, CollectorRegistry()).__aenter__()
