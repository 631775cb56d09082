"""Writes one record whose header has a name that is not UTF-8: no client for Python offers that, aiokafka can be told.

Its compiled extension insists on text; the environment of this process switches that off.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]


class _Name(str):
    """A name whose bytes are no text."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        """Not UTF-8."""
        return b"\xff\xfe\x80"


async def _main(bootstrap: str, topic: str, key: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"value", key.encode(), 0, headers=[(_Name("name"), b"x")])
    finally:
        await producer.stop()


asyncio.run(_main(*sys.stdin.read().split()))
